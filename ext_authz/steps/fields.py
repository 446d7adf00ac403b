"""Owns the body: one reading of it, refused where another parser could read another payment, and the facts in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ext_authz.check_context import CheckContext
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.fields import OrderFacts, notice_facts, read_facts
from paymesh.payments.json_body import BodyError, BodyErrorKind, JsonLimits, parse_json
from paymesh.payments.policy.compiled import Fields, Route
from paymesh.payments.request import Request

_NOTHING = Fields()
_REASONS = {
    BodyErrorKind.DUPLICATE_KEY: Reason.BODY_DUPLICATE_KEY,
    BodyErrorKind.SIZE: Reason.BODY_TOO_LARGE,
}


@dataclass(frozen=True, slots=True)
class FieldsStep:
    name: str = "fields"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        request, route = context.request, context.route
        assert route is not None
        encoding = request.headers.get("content-encoding", ())
        if request.body and any(value.strip().lower() != "identity" for value in encoding):
            return Denial(Reason.CONTENT_UNSUPPORTED, "the body has a content-encoding")
        if context.caller is not None and context.caller.notice is not None:
            facts = notice_facts(context.caller.notice)
        elif reads_body(route, request):
            facts = _read_body(request, route)
        else:
            return replace(context, why="the body is not read")
        if isinstance(facts, Denial):
            return facts
        found = [name for name in ("order_no", "money", "product") if getattr(facts, name) is not None]
        return replace(context, facts=facts, why=f"found {', '.join(found) or 'nothing to decide on'}")


def reads_body(route: Route, request: Request) -> bool:
    """A route reads its JSON when it decides on it or changes it; an empty body is read only where facts are needed."""
    return route.fields != _NOTHING or (bool(route.sanitize_request) and bool(request.body))


def _read_body(request: Request, route: Route) -> OrderFacts | Denial:
    content_type = ",".join(request.headers.get("content-type", ()))
    if content_type.partition(";")[0].strip().lower() != "application/json":
        return Denial(Reason.CONTENT_UNSUPPORTED, "the content-type is not application/json")
    try:
        # Envoy enforces the route's limit too, where the control plane wrote its configuration.
        document = parse_json(request.body, JsonLimits(max_bytes=route.max_body_bytes), object_only=True)
    except BodyError as error:
        return Denial(_REASONS.get(error.kind, Reason.BODY_MALFORMED), str(error))
    return read_facts(route.fields, document.value)
