"""Owns the limits' admin API: errors become gRPC statuses with a message for a person; every change is audited."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import grpc

from ext_authz.admin import limits_pb2, limits_pb2_grpc
from paymesh.payments.denial import Unavailable
from paymesh.payments.limits.demands import Instant, LimitStore, Used
from paymesh.payments.limits.latency import WHOLE
from paymesh.payments.limits.override_store import OverrideStore, refresh
from paymesh.payments.limits.overrides import LimitOverride
from paymesh.payments.limits.size_text import parse_size, show_size
from paymesh.payments.limits.sizing import LimitSizes
from paymesh.payments.policy.callers import Merchant
from paymesh.payments.policy.compiled import Policy, Route
from paymesh.payments.policy.rate_limits import Dimension, RateLimit
from paymesh.server.admin_access import actor_of

MAX_TEXT = 1000
"""Characters of a reason, an actor or a value."""
MAX_SECONDS = 30 * 86_400
UNKNOWN = "*"
"""For a value that only a request has."""
_SAID = frozenset(
    {Dimension.MERCHANT, Dimension.ROUTE, Dimension.OPERATION, Dimension.CHANNEL, Dimension.SERVICE, Dimension.VERSION}
)
"""Dimensions whose values may stand in a log: the others may be a person's."""
_AUDIT = logging.getLogger("paymesh.audit")


class LimitsAdmin(limits_pb2_grpc.LimitsServicer):  # type: ignore[misc]
    """`paymesh.limits.v1.Limits`."""

    def __init__(
        self, limits: LimitStore, sizes: LimitSizes, overrides: OverrideStore, policy: Callable[[], Policy]
    ) -> None:
        self._limits = limits
        self._sizes = sizes
        self._overrides = overrides
        self._policy = policy

    async def Show(  # noqa: N802 - the method's name in the .proto
        self,
        request: limits_pb2.ShowRequest,
        context: grpc.aio.ServicerContext[limits_pb2.ShowRequest, limits_pb2.ShowResponse],
    ) -> limits_pb2.ShowResponse:
        policy, now = self._policy(), _now()
        merchant = policy.merchants.get(request.merchant)
        if merchant is None and policy.merchant_table is not None:
            # Its own sizes stand in the table, which is asked by credential.
            merchant = Merchant(request.merchant, {})
        if merchant is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no merchant {request.merchant!r} in the documents")
            raise AssertionError("abort raises")
        answer = limits_pb2.ShowResponse(usage_known=True)
        for limit, values in _of_merchant(policy, merchant):
            demands = self._sizes.demands(limit, values, merchant, now.unix_s, timeout_ms=0)
            usage: Sequence[Used] = ()
            if UNKNOWN not in values:
                try:
                    usage = await self._limits.look(demands, now)
                except Unavailable:
                    answer.usage_known = False
            answer.limits.append(self._in_force(limit, values, merchant, now.unix_s, usage))
        answer.overrides.extend(_override(one) for one in self._sizes.overrides.all(now.unix_s))
        return answer

    async def Set(  # noqa: N802
        self,
        request: limits_pb2.SetRequest,
        context: grpc.aio.ServicerContext[limits_pb2.SetRequest, limits_pb2.SetResponse],
    ) -> limits_pb2.SetResponse:
        limit = await self._limit(request.limit, request.values, request.reason, request.actor, context)
        unknown = _unknown(self._policy(), limit, request.values)
        if unknown is not None:
            await context.abort(grpc.StatusCode.NOT_FOUND, unknown)
        if not 0 < request.seconds <= MAX_SECONDS:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an override lasts from 1 second to 30 days")
        try:
            size = parse_size(request.size, limit.kind)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise AssertionError("abort raises") from error
        now_s, values = int(time.time()), tuple(request.values)
        before = self._sizes.size(limit, values, self._merchant(limit, values), now_s)
        override = LimitOverride(
            (limit.name, *values), size, now_s + request.seconds, request.reason, actor_of(request.actor), now_s
        )
        await self._changed(self._overrides.put(override), context)
        fields = {"before": show_size(before), "after": show_size(size), "until": override.until_s}
        _audit("limit override set", limit, values, override.who, request.reason, fields)
        return limits_pb2.SetResponse(before=show_size(before), after=show_size(size), until=override.until_s)

    async def Unset(  # noqa: N802
        self,
        request: limits_pb2.UnsetRequest,
        context: grpc.aio.ServicerContext[limits_pb2.UnsetRequest, limits_pb2.UnsetResponse],
    ) -> limits_pb2.UnsetResponse:
        limit = await self._limit(request.limit, request.values, request.reason, request.actor, context)
        values = tuple(request.values)
        if not await self._changed(self._overrides.remove((limit.name, *values)), context):
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no override of this key")
        _audit("limit override unset", limit, values, actor_of(request.actor), request.reason, {})
        return limits_pb2.UnsetResponse()

    async def _limit(
        self, name: str, values: Sequence[str], reason: str, actor: str, context: grpc.aio.ServicerContext[Any, Any]
    ) -> RateLimit:
        known = self._policy().rate_limits
        limit = known.get(name)
        if limit is None:
            names = ", ".join(sorted(known)) or "none"
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no rate limit {name!r} (known: {names})")
            raise AssertionError("abort raises")
        if values and len(values) != len(limit.key):
            wanted = "/".join(str(part) for part in limit.key)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{name} is counted by {wanted}: a value for each")
        if not reason.strip():
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a change needs a reason")
        if any(len(text) > MAX_TEXT for text in (reason, actor, *values)):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"reason, actor and values take {MAX_TEXT} characters"
            )
        return limit

    async def _changed(self, change: Awaitable[object], context: grpc.aio.ServicerContext[Any, Any]) -> bool:
        try:
            result = await change
            await refresh(self._overrides, self._sizes.overrides, int(time.time()))
        except Unavailable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"not recorded: {error}")
        return bool(result)

    def _merchant(self, limit: RateLimit, values: Sequence[str]) -> Merchant | None:
        named = {part.dimension: value for part, value in zip(limit.key, values, strict=False)}
        return self._policy().merchants.get(named.get(Dimension.MERCHANT, ""))

    def _in_force(
        self, limit: RateLimit, values: tuple[str, ...], merchant: Merchant, now_s: int, usage: Sequence[Used]
    ) -> limits_pb2.LimitInForce:
        return limits_pb2.LimitInForce(
            limit=limit.name,
            key=[f"{part}={value}" for part, value in zip(limit.key, values, strict=True)],
            kind=limit.kind,
            size=show_size(self._sizes.size(limit, values, merchant, now_s)),
            size_from=self._size_from(limit, values, merchant, now_s),
            mode=limit.mode,
            usage=[limits_pb2.Usage(used=one.used, of=one.of) for one in usage],
        )

    def _size_from(self, limit: RateLimit, values: tuple[str, ...], merchant: Merchant, now_s: int) -> str:
        share = self._sizes.share(limit, values)
        if share < WHOLE:
            # Shrunk, whoever set the size; the share is of that.
            return f"{self._set_by(limit, values, merchant, now_s)}, {share // 100}% while slow"
        return self._set_by(limit, values, merchant, now_s)

    def _set_by(self, limit: RateLimit, values: tuple[str, ...], merchant: Merchant, now_s: int) -> str:
        if self._sizes.overrides.find((limit.name, *values), now_s) is not None:
            return "override"
        if limit.name in merchant.rate_limits:
            return "merchant"
        return f"tier {merchant.tier}" if merchant.tier in limit.tiers else "limit"


def _of_merchant(policy: Policy, merchant: Merchant) -> list[tuple[RateLimit, tuple[str, ...]]]:
    """Each limit that its requests meet, once, with every value that the policy alone can say."""
    found: dict[tuple[str, ...], RateLimit] = {}
    for route in policy.routes_by_name.values():
        if merchant.routes is not None and route.name not in merchant.routes:
            continue
        if merchant.operations is not None and route.operation not in merchant.operations:
            continue
        for limit in route.rate_limits:
            choices = [_choices(part.dimension, route, policy, merchant) for part in limit.key]
            found |= {(limit.name, *values): limit for values in itertools.product(*choices)}
    return [(limit, key[1:]) for key, limit in found.items()]


def _choices(dimension: Dimension, route: Route, policy: Policy, merchant: Merchant) -> Sequence[str]:
    services = [channel.service for channel in route.channels] if route.by_channel else [route.service or UNKNOWN]
    match dimension:
        case Dimension.MERCHANT:
            return [merchant.id]
        case Dimension.ROUTE:
            return [route.name]
        case Dimension.OPERATION:
            return [route.operation]
        case Dimension.CHANNEL:
            return [channel.name for channel in route.channels]
        case Dimension.SERVICE:
            return services
        case Dimension.VERSION:
            return [version.name for name in services for version in policy.services[name].versions]
        case _:
            return [UNKNOWN]


def _unknown(policy: Policy, limit: RateLimit, values: Sequence[str]) -> str | None:
    """A value that the policy does not have: an override for it would be for nobody."""
    known: Mapping[Dimension, Collection[str]] = {
        Dimension.ROUTE: policy.routes_by_name,
        Dimension.OPERATION: {route.operation for route in policy.routes_by_name.values()},
        Dimension.CHANNEL: policy.channels,
        Dimension.SERVICE: policy.services,
        # A table is asked by credential: what names it has is not known here.
        **({} if policy.merchant_table is not None else {Dimension.MERCHANT: policy.merchants}),
    }
    for part, value in zip(limit.key, values, strict=False):
        if part.dimension in known and value not in known[part.dimension]:
            return f"no {part} {value!r} in the documents"
    return None


def _override(override: LimitOverride) -> limits_pb2.Override:
    return limits_pb2.Override(
        limit=override.key[0],
        values=override.key[1:],
        size=show_size(override.size),
        until=override.until_s,
        reason=override.reason,
        actor=override.who,
    )


def _audit(
    event: str, limit: RateLimit, values: Sequence[str], who: str, reason: str, more: Mapping[str, object]
) -> None:
    shown = [value if part.dimension in _SAID else "***" for part, value in zip(limit.key, values, strict=False)]
    fields = {"limit": limit.name, "key": shown, "actor": who, "reason": reason, **more}
    _AUDIT.warning(event, extra={"fields": fields})


def _now() -> Instant:
    return Instant(time.monotonic_ns(), int(time.time()))
