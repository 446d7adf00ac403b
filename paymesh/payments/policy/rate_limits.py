"""Owns a compiled rate limit: what it counts, whose requests count together, how many, and what happens without its
store."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from paymesh.payments.bodies.pointer import JsonPointer
from paymesh.payments.limits.latency import LatencySettings
from paymesh.payments.policy.callers import LimitSize


class LimitKind(enum.StrEnum):
    """What a limit counts."""

    QPS = "qps"
    """Every request."""
    TPS = "tps"
    """Payments."""
    CONCURRENCY = "concurrency"
    """Requests that are not over."""
    DAILY_COUNT = "daily_count"
    """Payments of a calendar day."""
    DAILY_AMOUNT = "daily_amount"
    """Minor units of one currency, of the payments of a calendar day."""
    LATENCY = "latency"
    """Every request, at a rate that shrinks while the service or channel is slow."""

    @property
    def of_payments(self) -> bool:
        return self in (LimitKind.TPS, LimitKind.DAILY_COUNT, LimitKind.DAILY_AMOUNT)

    @property
    def has_rate(self) -> bool:
        return self in (LimitKind.QPS, LimitKind.TPS, LimitKind.LATENCY)


class Dimension(enum.StrEnum):
    """What requests may have in common."""

    MERCHANT = "merchant"
    USER = "user"
    ROUTE = "route"
    OPERATION = "operation"
    CHANNEL = "channel"
    SERVICE = "service"
    VERSION = "version"
    """Of the service; known here only where it has one version, and to Envoy's own rate-limit filter."""
    APP = "app"
    CLIENT_IP = "client_ip"
    HEADER = "header"
    FIELD = "field"
    """Of the body; only its digest is kept."""
    CLAIM = "claim"
    """Of the verified token."""


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One dimension of a limit's key. `name`: of a header (lower case) or a claim; `pointer`: of a field."""

    dimension: Dimension
    name: str = ""
    pointer: JsonPointer = ()

    def __str__(self) -> str:
        return f"{self.dimension}:{self.name}" if self.name else str(self.dimension)


BY_MERCHANT = KeyPart(Dimension.MERCHANT)


class LimitMode(enum.StrEnum):
    ENFORCE = "enforce"
    SHADOW = "shadow"
    """Counted and told, never refused."""


class OnError(enum.StrEnum):
    """What a limit does while shared state cannot be asked."""

    LOCAL = "local"
    """Every process counts for itself, from nothing: it admits up to that many times as much as there are
    processes."""
    ALLOW = "allow"
    DENY = "deny"
    """503: not decided, which is no refusal of the caller."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`name` is stable: what was counted survives a policy reload under it."""

    name: str
    size: LimitSize
    kind: LimitKind = LimitKind.QPS
    key: tuple[KeyPart, ...] = (BY_MERCHANT,)
    mode: LimitMode = LimitMode.ENFORCE
    on_error: OnError = OnError.LOCAL
    tiers: Mapping[str, LimitSize] = field(default_factory=dict)
    """Sizes for merchants of a tier."""
    count_refused: bool = False
    """A refused request takes a token too, down to one burst below empty: who hammers stays out."""
    batch: int = 1
    """Tokens that a worker takes ahead from shared state; 1: every request asks."""
    latency: LatencySettings | None = None
    """Of a latency limit."""
    currency: str = "CNY"
    """Of a daily amount; payments in others are not counted by it."""
    day_begins_s: int = 0
    """Seconds from the beginning of the limit's day back to that of the UTC day: 28800 for UTC+8."""


def limits_read_body(limits: Iterable[RateLimit]) -> bool:
    """Whether a field of the body says which counter is meant."""
    return any(part.dimension is Dimension.FIELD for limit in limits for part in limit.key)
