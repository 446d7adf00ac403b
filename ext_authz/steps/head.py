"""Owns hiding fields of the request's head from the service: Envoy is told what to change. The body goes through
ext_proc."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ext_authz.check_context import CheckContext
from paymesh.payments.bodies.errors import BodyError, body_denial
from paymesh.payments.denial import Denial, Unavailable
from paymesh.payments.fields.sanitize_head import sanitize_head
from paymesh.payments.routing import find_route


@dataclass(frozen=True, slots=True)
class HeadStep:
    name: str = "head"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route, request = context.route, context.request
        assert route is not None
        if not route.sanitize_head:
            return context.having(why="nothing to hide")
        try:
            head = sanitize_head(
                request.target,
                route.match.path,
                request.headers,
                route.request_reading,
                route.sanitize_head,
                context.now_s,
            )
        except BodyError as error:
            return body_denial(error, "the query")
        if head.target is not None:
            # Envoy looks the route up again by what it then sees.
            found = find_route(context.policy, replace(request, target=head.target))
            if found is None or found.match != route.match:
                raise Unavailable("sanitised, the target would belong to another route")
        done = ", ".join(map(str, head.changed))
        return context.having(head=head, why=done or "nothing to hide")
