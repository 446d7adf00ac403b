"""Owns who is calling: the first of the route's schemes that the request carries must verify."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ext_authz.check_context import CheckContext
from paymesh.payments.credentials.authenticated import invalid
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.request import RepeatedHeader


@dataclass(frozen=True, slots=True)
class CredentialStep:
    name: str = "credential"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route = context.route
        assert route is not None
        if not route.schemes:
            return replace(context, why="the route is open")
        scheme = next((SCHEMES[name] for name in route.schemes if SCHEMES[name].recognises(context.request)), None)
        if scheme is None:
            return Denial(Reason.CREDENTIAL_MISSING, f"none of {', '.join(route.schemes)} in the request")
        try:
            caller = scheme.verify(context.request, route, context.policy)
        except RepeatedHeader as repeated:
            return invalid(f"header {repeated} came more than once")
        if isinstance(caller, Denial):
            return replace(caller, detail=f"{scheme.scheme}: {caller.detail}")
        return replace(context, caller=caller, why=f"{caller.merchant.id} by {caller.scheme} key {caller.key_id}")
