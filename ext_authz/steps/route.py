"""Owns which route a request belongs to: the control plane's word where there is one, our own matcher elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from ext_authz.check_context import CheckContext
from paymesh.payments.denial import Denial, Reason, Unavailable
from paymesh.payments.routing import find_route


@dataclass(frozen=True, slots=True)
class RouteStep:
    name: str = "route"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        named = context.request.route_name
        if named is None:
            route, how = find_route(context.policy, context.request), "matched here"
        else:
            route, how = context.policy.routes_by_name.get(named), "named by Envoy"
            if route is None:
                # Envoy runs another policy than we do: a short moment during a reload, and no reason to guess.
                raise Unavailable(f"Envoy's route {named} is not in policy {context.policy.version}")
        if route is None:
            return Denial(Reason.ROUTE_UNKNOWN, "no route matches")
        return context.having(route=route, why=f"{route.name} ({route.operation}), {how}")
