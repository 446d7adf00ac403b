"""Owns rate limits: one token from each of the route's buckets, or none from any and a refusal."""

from __future__ import annotations

from dataclasses import dataclass

from ext_authz.check_context import CheckContext
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.token_bucket import Bucket, BucketStore


@dataclass(frozen=True, slots=True)
class LimitsStep:
    buckets: BucketStore
    name: str = "limits"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route, caller = context.route, context.caller
        assert route is not None
        if caller is None or not route.rate_limits:
            return context.having(why="no limit applies")
        merchant = caller.merchant
        buckets = [
            Bucket((limit.name, merchant.id), merchant.rate_limits.get(limit.name, limit.size))
            for limit in route.rate_limits
        ]
        exhausted = await self.buckets.take(buckets, context.monotonic_ns)
        if exhausted is None:
            return context.having(why=f"inside {', '.join(limit.name for limit in route.rate_limits)}")
        size = exhausted.bucket.size
        detail = f"{exhausted.bucket.key[0]}: {size.requests_per_second}/s, burst {size.burst}"
        return Denial(Reason.RATE_LIMITED, detail, retry_after_s=max(1, exhausted.retry_after_s))
