"""Owns what the request says: one reading of its body, refused where another parser could read another payment; the
facts in it; and every rule that its fields break, all told at once.

What the message says of itself must be the caller's own: another merchant's number or app id is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from ext_authz.check_context import CheckContext
from paymesh.payments.bodies.body import read_body, read_query
from paymesh.payments.bodies.errors import BodyError, body_denial
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.fields.facts import OrderFacts, read_facts
from paymesh.payments.fields.rules import Message, merchant_violations, told, violations
from paymesh.payments.fields.sanitize_head import path_segments
from paymesh.payments.permission import in_its_own_name
from paymesh.payments.policy.compiled import Protocol, Route
from paymesh.payments.policy.field_rules import Place
from paymesh.payments.policy.rate_limits import limits_read_body
from paymesh.payments.request import RepeatedHeader, Request


@dataclass(frozen=True, slots=True)
class FieldsStep:
    name: str = "fields"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        request, route, caller = context.request, context.route, context.caller
        assert route is not None
        unread = _unreadable(request, route)
        if unread is not None:
            return unread
        try:
            document = None if caller is None else caller.document
            if document is None and reads_body(route, request):
                content_type = request.header("content-type")
                document = read_body(request.body, content_type, route.request_reading).value
            message = _message(route, request, document)
        except RepeatedHeader:
            return Denial(Reason.CONTENT_UNSUPPORTED, "the content-type came more than once")
        except BodyError as error:
            return body_denial(error)
        facts = _facts(route, message)
        wrong = list(facts.told) if isinstance(facts, Denial) else []
        wrong += violations(route.validation, message, context.now_s)
        if caller is not None and not isinstance(facts, Denial):
            wrong += merchant_violations(caller.merchant, facts)
        if wrong:
            wrong = list(dict.fromkeys(wrong))
            return Denial(Reason.FIELD_INVALID, "; ".join(wrong), told=told(wrong))
        assert not isinstance(facts, Denial)  # it would have been told
        if caller is not None:
            app_id = None if route.fields.app_id is None else facts.app_id
            foreign = in_its_own_name(caller, route.protocol, document, request.query, app_id)
            if foreign is not None:
                return foreign
        if document is None and not route.fields.asked_for:
            return context.having(facts=facts, why="the body is not read")
        if limits_read_body(route.rate_limits) or any(channel.adapted for channel in route.channels):
            context = context.having(document=document)
        found = [name for name in ("order_no", "money", "product") if getattr(facts, name) is not None]
        return context.having(facts=facts, why=f"found {', '.join(found) or 'nothing to decide on'}")


def reads_body(route: Route, request: Request) -> bool:
    """A route reads its body when it decides on it or changes it; an empty one is read only where facts are needed.

    A provider's message is read as well: it may name a merchant or an app in which it does not speak.
    """
    if route.fields.asked_for or any(rule.required and rule.place is Place.BODY for rule in route.validation.fields):
        return True
    if not request.body:
        return False
    if limits_read_body(route.rate_limits):
        return True
    return bool(route.sanitize_request) or route.validation.reads_body or route.protocol is Protocol.WECHAT_V3


def _unreadable(request: Request, route: Route) -> Denial | None:
    encoding = request.headers.get("content-encoding", ())
    if request.body and any(value.strip().lower() != "identity" for value in encoding):
        return Denial(Reason.CONTENT_UNSUPPORTED, "the body has a content-encoding")
    if not route.needs_body:
        # Envoy passes such a body on without keeping it; its length is known only where the client said it.
        length = next(iter(request.headers.get("content-length", ())), "")
        limit = route.request_reading.limits.max_bytes
        if length.isascii() and length.isdigit() and (len(length) > len(str(limit)) or int(length) > limit):
            return Denial(Reason.BODY_TOO_LARGE, f"the body is longer than {limit} bytes")
    return None


def _message(route: Route, request: Request, document: object) -> Message:
    """The parts that this route's rules look into; the others stay empty. Raises BodyError, RepeatedHeader."""
    asked = {rule.place for rule in route.validation.fields}
    asked |= {route.fields.order_no_place, route.fields.original_order_no_place}
    if asked == {Place.BODY} and not route.validation.fields:
        return Message(document)
    query = read_query(request.query, route.request_reading).value if Place.QUERY in asked else {}
    named = (rule.field[0] for rule in route.validation.fields if rule.place is Place.HEADER)
    headers = {name: value for name in named if (value := request.header(name)) is not None}
    assert isinstance(query, dict)  # a query is parameters
    return Message(
        body=document,
        query=query,
        path=path_segments(request.path, route.match.path) if Place.PATH in asked else {},
        headers=headers,
    )


def _facts(route: Route, message: Message) -> OrderFacts | Denial:
    fields = route.fields
    if message.body is None and not fields.asked_for and fields.order_no is None:
        return OrderFacts()
    return read_facts(
        fields, message.body, message.part(fields.order_no_place), message.part(fields.original_order_no_place)
    )
