"""Owns how large a limit is for one request: somebody's override, the merchant's own size, its tier's, the limit's; and
what that makes the request ask for."""

from __future__ import annotations

from dataclasses import dataclass

from paymesh.payments.limits.demands import Demand, Quota, Slot, Tokens
from paymesh.payments.limits.latency import WHOLE, InProcessLatencies
from paymesh.payments.limits.latency_guard import LatencyGuard, scale
from paymesh.payments.limits.overrides import OverridesInForce
from paymesh.payments.policy.callers import LimitSize, Merchant, TokenRate
from paymesh.payments.policy.rate_limits import Dimension, LimitKind, LimitMode, RateLimit

LEASE_MARGIN_S = 10
"""Beyond the route's timeout: a slot whose end nobody told by then is free."""


@dataclass(frozen=True, slots=True)
class LimitSizes:
    """What may change while a policy is in force."""

    overrides: OverridesInForce
    latencies: LatencyGuard

    def size(self, limit: RateLimit, values: tuple[str, ...], merchant: Merchant | None, now_s: int) -> LimitSize:
        """Of a limit, for the values of its key. A latency limit's is what it is while the service is quick."""
        override = self.overrides.find((limit.name, *values), now_s)
        if override is not None:
            return override.size
        if merchant is None:
            return limit.size
        tier = limit.size if merchant.tier is None else limit.tiers.get(merchant.tier, limit.size)
        return merchant.rate_limits.get(limit.name, tier)

    def demands(
        self,
        limit: RateLimit,
        values: tuple[str, ...],
        merchant: Merchant | None,
        now_s: int,
        *,
        timeout_ms: int,
        cost: int = 1,
    ) -> list[Demand]:
        """One demand, or one a window. `cost`: requests, or minor units. `timeout_ms`: of the request's route."""
        size = self.size(limit, values, merchant, now_s)
        key, on_error, enforced = (limit.name, *values), limit.on_error, limit.mode is LimitMode.ENFORCE
        if isinstance(size, int):
            if limit.kind is LimitKind.CONCURRENCY:
                lease_s = -(-timeout_ms // 1000) + LEASE_MARGIN_S
                return [Slot(key=key, on_error=on_error, enforced=enforced, max=size, lease_s=lease_s)]
            begins_s = limit.day_begins_s
            return [Quota(key=key, on_error=on_error, enforced=enforced, max=size, cost=cost, day_begins_s=begins_s)]
        share = self.share(limit, values)
        return [
            Tokens(
                key=key,
                on_error=on_error,
                enforced=enforced,
                rate=rate if share == WHOLE else _shrunk(rate, share),
                cost=cost,
                batch=limit.batch,
                count_refused=limit.count_refused,
            )
            for rate in size
        ]

    def share(self, limit: RateLimit, values: tuple[str, ...]) -> int:
        """Of the size, while a service is slow: WHOLE, if none is."""
        if limit.latency is None:
            return WHOLE
        timed = timed_by(limit, values)
        self.latencies.share_wanted(timed, limit.latency)
        return self.latencies.share(timed)


def in_process_sizes() -> LimitSizes:
    """Nothing overridden, nobody slow."""
    return LimitSizes(OverridesInForce(), LatencyGuard(InProcessLatencies()))


def timed_by(limit: RateLimit, values: tuple[str, ...]) -> tuple[str, str]:
    """The limit's name and the channel, else the service, whose latency it goes by."""
    named = {part.dimension: value for part, value in zip(limit.key, values, strict=True)}
    return limit.name, named.get(Dimension.CHANNEL) or named[Dimension.SERVICE]


def _shrunk(rate: TokenRate, share: int) -> TokenRate:
    return TokenRate(scale(rate.tokens, share), rate.per_s, scale(rate.burst, share))
