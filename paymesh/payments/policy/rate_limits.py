"""Owns a compiled rate limit: whose requests share a bucket, how large it is, and what happens without its store."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from paymesh.payments.policy.callers import BucketSize


class LimitKey(enum.StrEnum):
    """What requests have in common that share a bucket."""

    MERCHANT = "merchant"
    ROUTE = "route"
    OPERATION = "operation"
    CLIENT_IP = "client_ip"


class LimitMode(enum.StrEnum):
    ENFORCE = "enforce"
    SHADOW = "shadow"
    """Counted and told, never refused."""


class OnError(enum.StrEnum):
    """What a limit does while shared state cannot be asked."""

    LOCAL = "local"
    """Every process has a bucket of its own of the same size, full at first: it admits up to that many times as much
    as there are processes."""
    ALLOW = "allow"
    DENY = "deny"
    """503: not decided, which is no refusal of the caller."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`name` is stable: buckets survive a policy reload under it."""

    name: str
    size: BucketSize
    key: tuple[LimitKey, ...] = (LimitKey.MERCHANT,)
    mode: LimitMode = LimitMode.ENFORCE
    on_error: OnError = OnError.LOCAL
