"""Owns rate limits: what each of the route's limits asks for, or nothing from any and a refusal.

All limits of a request are asked in one call. That is early, before any dear work; but late on a route where a limit
goes by what only the fields, the user or the channel say. A request that an earlier step refuses is not counted then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ext_authz.check_context import CheckContext
from paymesh.payments.bodies.json_body import MISSING, lookup
from paymesh.payments.denial import Denial
from paymesh.payments.limits.demands import Demand, Instant, LimitStore
from paymesh.payments.limits.refusing import limit_denial
from paymesh.payments.limits.sizing import LimitSizes, timed_by
from paymesh.payments.policy.rate_limits import Dimension, KeyPart, LimitKind, RateLimit


@dataclass(frozen=True, slots=True)
class LimitsStep:
    limits: LimitStore
    sizes: LimitSizes
    late: bool = False

    @property
    def name(self) -> str:
        return "limits_late" if self.late else "limits"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route = context.route
        assert route is not None
        if not route.rate_limits:
            return context.having(why="no limit applies")
        if route.limits_known_late is not self.late:
            return context.having(why="asked when fields and channel are known" if not self.late else "asked before")
        demands: list[Demand] = []
        timed = []
        for limit in route.rate_limits:
            values = _values(limit, context)
            demands += self._demands(limit, values, context)
            if limit.latency is not None:
                timed.append(" ".join(timed_by(limit, values)))
        if not demands:
            return context.having(why="no limit applies to this payment")
        now = Instant(context.monotonic_ns, context.now_s)
        taken = await self.limits.take(demands, context.request.request_id, now)
        if taken.refused is not None:
            return limit_denial(taken.refused)
        shadowed = _names(taken.shadowed)
        alone = _names(taken.without_store)
        within = [name for name in _names(demands) if name not in shadowed]
        why = [f"inside {', '.join(within)}"] if within else []
        why += [f"over {', '.join(shadowed)} (shadow)"] if shadowed else []
        why += ["without shared state"] if alone else []
        return context.having(
            limits_shadowed=shadowed,
            limits_without_store=alone,
            held=taken.held,
            timed=tuple(timed),
            why="; ".join(why),
        )

    def _demands(self, limit: RateLimit, values: tuple[str, ...], context: CheckContext) -> list[Demand]:
        assert context.route is not None
        cost = 1
        if limit.kind is LimitKind.DAILY_AMOUNT:
            money = context.facts.money
            if money is None or money.currency != limit.currency:
                return []
            cost = money.amount
        merchant = None if context.caller is None else context.caller.merchant
        timeout_ms = context.route.timeout_ms
        return self.sizes.demands(limit, values, merchant, context.now_s, timeout_ms=timeout_ms, cost=cost)


def _names(demands: tuple[Demand, ...] | list[Demand]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(demand.limit for demand in demands))


# -- the value of each dimension; what a route could never know is refused at load ------------------------------------


def _values(limit: RateLimit, context: CheckContext) -> tuple[str, ...]:
    return tuple(_VALUES[part.dimension](context, part) for part in limit.key)


def _merchant(context: CheckContext, _: KeyPart) -> str:
    assert context.caller is not None
    return context.caller.merchant.id


def _user(context: CheckContext, _: KeyPart) -> str:
    assert context.user is not None
    return context.user.header_value


def _route(context: CheckContext, _: KeyPart) -> str:
    assert context.route is not None
    return context.route.name


def _operation(context: CheckContext, _: KeyPart) -> str:
    assert context.route is not None
    return context.route.operation


def _channel(context: CheckContext, _: KeyPart) -> str:
    assert context.channel is not None
    return context.channel.name


def _service(context: CheckContext, _: KeyPart) -> str:
    assert context.route is not None
    name = context.route.service if context.channel is None else context.channel.service
    assert name is not None
    return name


def _version(context: CheckContext, part: KeyPart) -> str:
    (version,) = context.policy.services[_service(context, part)].versions
    return version.name


def _app(context: CheckContext, _: KeyPart) -> str:
    assert context.caller is not None
    return context.facts.app_id or context.caller.proves.get("app_id", "")


def _client_ip(context: CheckContext, _: KeyPart) -> str:
    return context.request.client_address


def _header(context: CheckContext, part: KeyPart) -> str:
    return ",".join(context.request.headers.get(part.name, ()))


def _field(context: CheckContext, part: KeyPart) -> str:
    found = lookup(context.document, part.pointer)
    # A digest: what the store and its keys hold is no field's value. Absent ones count together.
    return "" if found is MISSING else hashlib.sha256(repr(found).encode("utf-8", "surrogatepass")).hexdigest()


def _claim(context: CheckContext, part: KeyPart) -> str:
    assert context.caller is not None
    found = context.caller.claims.get(part.name)
    return found if isinstance(found, str) else "" if found is None else repr(found)


_VALUES: Mapping[Dimension, Callable[[CheckContext, KeyPart], str]] = {
    Dimension.MERCHANT: _merchant,
    Dimension.USER: _user,
    Dimension.ROUTE: _route,
    Dimension.OPERATION: _operation,
    Dimension.CHANNEL: _channel,
    Dimension.SERVICE: _service,
    Dimension.VERSION: _version,
    Dimension.APP: _app,
    Dimension.CLIENT_IP: _client_ip,
    Dimension.HEADER: _header,
    Dimension.FIELD: _field,
    Dimension.CLAIM: _claim,
}
