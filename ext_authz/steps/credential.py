"""Owns who is calling: the first of the route's schemes that the request carries must verify."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ext_authz.check_context import CheckContext
from paymesh.payments.credentials.authenticate import authenticate
from paymesh.payments.credentials.authorization import came_twice
from paymesh.payments.credentials.claim import Asked, KeyDirectory, invalid
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.denial import Denial, Reason


@dataclass(frozen=True, slots=True)
class CredentialStep:
    directory: KeyDirectory
    name: str = "credential"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route, request = context.route, context.request
        assert route is not None
        if not route.schemes:
            return context.having(why="the route is open")
        if came_twice(request.headers.get("authorization", ())):
            # Whatever the scheme, since it goes on to the service as it came.
            return invalid("header authorization came more than once")
        scheme = next((SCHEMES[name] for name in route.schemes if SCHEMES[name].recognises(request)), None)
        if scheme is None:
            return Denial(Reason.CREDENTIAL_MISSING, f"none of {', '.join(route.schemes)} in the request")
        asked = Asked(request, route, context.policy, self.directory, context.now_s)
        caller = await authenticate(scheme, asked)
        if isinstance(caller, Denial):
            return replace(caller, detail=f"{scheme.scheme}: {caller.detail}")
        return context.having(caller=caller, why=f"{caller.merchant.id} by {caller.scheme} key {caller.key_id}")
