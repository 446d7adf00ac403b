"""Owns which of the routes behind one match is meant, by verified parameters, and whether the caller may call it."""

from __future__ import annotations

from dataclasses import dataclass

from ext_authz.check_context import CheckContext
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.permission import permitted
from paymesh.payments.policy.variants import choose


@dataclass(frozen=True, slots=True)
class PermissionStep:
    name: str = "permission"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route, caller = context.route, context.caller
        assert route is not None
        if route.variants:
            assert caller is not None  # an entry's schemes are its variants', and form protocols have one
            chosen = choose(route, caller.parameters)
            if chosen is None:
                return Denial(Reason.ROUTE_UNKNOWN, "no route has the request's signed parameters")
            route = chosen
        if caller is None:
            return context.having(route=route, why="nobody in particular")
        refused = permitted(caller, route)
        if refused is not None:
            return refused
        return context.having(route=route, why=f"{caller.merchant.id} may call {route.name} ({route.operation})")
