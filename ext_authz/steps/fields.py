"""Owns the body: one reading of it, refused where another parser could read another payment, and the facts in it.

What the message says of itself must be the caller's own: another merchant's number or app id is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from ext_authz.check_context import CheckContext
from paymesh.payments.bodies.errors import BodyError, body_denial
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.fields.facts import OrderFacts, read_facts
from paymesh.payments.permission import in_its_own_name
from paymesh.payments.policy.compiled import Protocol, Route
from paymesh.payments.request import Request


@dataclass(frozen=True, slots=True)
class FieldsStep:
    name: str = "fields"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        request, route = context.request, context.route
        assert route is not None
        encoding = request.headers.get("content-encoding", ())
        if request.body and any(value.strip().lower() != "identity" for value in encoding):
            return Denial(Reason.CONTENT_UNSUPPORTED, "the body has a content-encoding")
        caller = context.caller
        document = None if caller is None else caller.document
        if document is None and reads_body(route, request):
            document = _read_body(request, route)
            if isinstance(document, Denial):
                return document
        if document is None and not route.fields.asked_for:
            facts, read = OrderFacts(), False
        else:
            found_facts = read_facts(route.fields, document)
            if isinstance(found_facts, Denial):
                return found_facts
            facts, read = found_facts, True
        if caller is not None:
            app_id = None if route.fields.app_id is None else facts.app_id
            foreign = in_its_own_name(caller, route.protocol, document, request.query, app_id)
            if foreign is not None:
                return foreign
        if not read:
            return context.having(why="the body is not read")
        found = [name for name in ("order_no", "money", "product") if getattr(facts, name) is not None]
        return context.having(facts=facts, why=f"found {', '.join(found) or 'nothing to decide on'}")


def reads_body(route: Route, request: Request) -> bool:
    """A route reads its JSON when it decides on it or changes it; an empty body is read only where facts are needed.

    A provider's message is read as well: it may name a merchant or an app in which it does not speak.
    """
    if route.fields.asked_for:
        return True
    return bool(request.body) and (bool(route.sanitize_request) or route.protocol is Protocol.WECHAT_V3)


def _read_body(request: Request, route: Route) -> object:
    """The JSON value of the body, or a Denial."""
    content_type = ",".join(request.headers.get("content-type", ()))
    if content_type.partition(";")[0].strip().lower() != "application/json":
        return Denial(Reason.CONTENT_UNSUPPORTED, "the content-type is not application/json")
    try:
        # Envoy enforces the route's limit too, where the control plane wrote its configuration.
        return parse_json(request.body, BodyLimits(max_bytes=route.max_body_bytes), object_only=True).value
    except BodyError as error:
        return body_denial(error)
