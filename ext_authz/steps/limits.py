"""Owns rate limits: one token from each of the route's buckets, or none from any and a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ext_authz.check_context import CheckContext
from paymesh.payments.denial import Denial, LimitTold, Reason
from paymesh.payments.policy.rate_limits import LimitKey, LimitMode, RateLimit
from paymesh.payments.token_bucket import Bucket, BucketStore, Exhausted


def _merchant(context: CheckContext) -> str:
    assert context.caller is not None, "refused at load: a limit by merchant on a route that knows none"
    return context.caller.merchant.id


def _route(context: CheckContext) -> str:
    assert context.route is not None
    return context.route.name


def _operation(context: CheckContext) -> str:
    assert context.route is not None
    return context.route.operation


_VALUES: Mapping[LimitKey, Callable[[CheckContext], str]] = {
    LimitKey.MERCHANT: _merchant,
    LimitKey.ROUTE: _route,
    LimitKey.OPERATION: _operation,
    LimitKey.CLIENT_IP: lambda context: context.request.client_address,
}


@dataclass(frozen=True, slots=True)
class LimitsStep:
    buckets: BucketStore
    name: str = "limits"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route = context.route
        assert route is not None
        if not route.rate_limits:
            return context.having(why="no limit applies")
        buckets = [_bucket(limit, context) for limit in route.rate_limits]
        taken = await self.buckets.take(buckets, context.monotonic_ns)
        if taken.refused is not None:
            return _denial(taken.refused)
        shadowed = tuple(bucket.key[0] for bucket in taken.shadowed)
        alone = tuple(bucket.key[0] for bucket in taken.without_store)
        within = [limit.name for limit in route.rate_limits if limit.name not in shadowed]
        why = [f"inside {', '.join(within)}"] if within else []
        why += [f"over {', '.join(shadowed)} (shadow)"] if shadowed else []
        why += ["without shared state"] if alone else []
        return context.having(limits_shadowed=shadowed, limits_without_store=alone, why="; ".join(why))


def _bucket(limit: RateLimit, context: CheckContext) -> Bucket:
    size = limit.size
    if context.caller is not None:
        size = context.caller.merchant.rate_limits.get(limit.name, size)
    values = [_VALUES[key](context) for key in limit.key]
    return Bucket((limit.name, *values), size, limit.on_error, enforced=limit.mode is LimitMode.ENFORCE)


def _denial(exhausted: Exhausted) -> Denial:
    name, size = exhausted.bucket.key[0], exhausted.bucket.size
    told = LimitTold(name, size.burst, -(-size.burst // size.requests_per_second))
    detail = f"{name}: {size.requests_per_second}/s, burst {size.burst}"
    return Denial(Reason.RATE_LIMITED, detail, retry_after_s=exhausted.retry_after_s, limit=told)
