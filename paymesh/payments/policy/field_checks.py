"""Owns what a route's rules about fields may not be: whatever would break a signature, change what was decided on, or
never match, each with its reason.

Pure: a route's document in, problems out (path inside the route, message).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from paymesh.payments.bodies.pointer import WILDCARD, JsonPointer
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy import field_documents as fd
from paymesh.payments.policy.callers import Scheme
from paymesh.payments.policy.field_rules import Place, SanitizeAction
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.policy.route_checks import REMOVED_HEADERS, Problem

_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_FRAMING = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "te"}
)

_EMBEDDED: Mapping[c.Protocol, frozenset[JsonPointer]] = {c.Protocol.ALIPAY_V2: frozenset({("biz_content",)})}

VERIFIED_ANSWERS = frozenset({c.Protocol.ALIPAY_V2, c.Protocol.ALIPAY_V3, c.Protocol.WECHAT_V3, c.Protocol.UNIONPAY})
"""Protocols whose SDKs verify what they hear (protocols.md section 4)."""
SIGNED_AGAIN = frozenset({c.Protocol.ALIPAY_V2, c.Protocol.ALIPAY_V3, c.Protocol.WECHAT_V3})
"""Those whose answers this gateway can sign."""
Decided = tuple[str, Place, JsonPointer]
"""A fact that a payment is decided by, and where it stands."""


def decided_on(fields: fd.FieldsDocument, protocol: c.Protocol) -> list[Decided]:
    """Every place of every fact."""
    named = [("amount", fields.amount), ("currency", fields.currency), ("product", fields.product)]
    facts = [(name, place) for name, place in (*named, ("app_id", fields.app_id)) if place is not None]
    numbers = [("order_no", place) for place in fields.order_no or ()]
    if fields.order_no_place is Place.BODY:
        facts = numbers + facts
    # Alipay v2's parameters stand in the query, in a form, or in both.
    stand_in = (Place.BODY, Place.QUERY) if protocol is c.Protocol.ALIPAY_V2 else (Place.BODY,)
    found = [(name, place, pointer) for name, pointer in facts for place in stand_in]
    if fields.order_no_place is not Place.BODY:
        found += [(name, fields.order_no_place, pointer) for name, pointer in numbers]
    return found


def embedded_in(document: d.RouteDocument, protocol: c.Protocol) -> frozenset[JsonPointer]:
    """The texts that hold a JSON document."""
    return frozenset(document.body.embedded) | _EMBEDDED.get(protocol, frozenset())


def field_problems(document: d.RouteDocument, protocol: c.Protocol) -> Iterator[Problem]:
    """Everything wrong with one route's rules."""
    yield from _place_problems(document, embedded_in(document, protocol))
    yield from _signature_problems(document, protocol)
    yield from _deciding_problems(document, protocol)
    for number, rule in enumerate(document.sanitize.request):
        queried = {(query.name,) for query in document.match.query_parameters}
        if rule.place is Place.QUERY and (rule.field is None or rule.field in queried) and queried:
            yield (
                ("sanitize", "request", number),
                "the route is matched by parameters: changed, it would go elsewhere",
            )
    for number, total in enumerate(document.validation.sums):
        where: DocumentPath = ("validation", "sums", number)
        if total.sum.count(WILDCARD) != 1 or WILDCARD in total.equals:
            yield where, "sum has one * and equals none"
        if total.times is not None and _items(total.times) != _items(total.sum):
            yield (*where, "times"), "is about other items than sum"
    for number, relation in enumerate(document.validation.comparisons):
        if WILDCARD in (*relation.compare, *relation.to):
            yield ("validation", "comparisons", number), "one field is compared with one other: no *"
    if document.open_order and document.operation is not c.Operation.PAY:
        yield ("open_order",), "only a payment is refused because its order is paid or closed"


def _deciding_problems(document: d.RouteDocument, protocol: c.Protocol) -> Iterator[Problem]:
    said: set[tuple[int, str]] = set()
    for name, place, pointer in decided_on(document.fields, protocol):
        if WILDCARD in pointer and place is not Place.QUERY:
            yield ("fields", name), "one payment has one of it: * is for rules"
        for number, rule in enumerate(document.sanitize.request):
            hides = not rule.detect and rule.field is not None and rule.place is place
            if hides and rule.field is not None and _overlap(rule.field, pointer) and (number, name) not in said:
                said.add((number, name))
                yield ("sanitize", "request", number), f"must not change the {name} that was decided on"


def _items(pointer: JsonPointer) -> JsonPointer:
    return pointer[: pointer.index(WILDCARD)] if WILDCARD in pointer else pointer


def _place_problems(document: d.RouteDocument, embedded: frozenset[JsonPointer]) -> Iterator[Problem]:
    segments = set(c.TEMPLATE_SEGMENT.findall(document.match.path_template or ""))
    asked: list[tuple[DocumentPath, Place, JsonPointer | None]] = [
        (("validation", "fields", number), rule.place, rule.field)
        for number, rule in enumerate(document.validation.fields)
    ]
    hidden = [
        (("sanitize", direction, number), rule)
        for direction in ("request", "response")
        for number, rule in enumerate(getattr(document.sanitize, direction))
    ]
    asked += [(where, rule.place, rule.field) for where, rule in hidden]
    if document.fields.order_no is not None:
        asked += [(("fields", "order_no"), document.fields.order_no_place, place) for place in document.fields.order_no]
    for where, place, field in asked:
        if place is Place.BODY:
            continue
        deeper = place is Place.QUERY and field is not None and field[:1] in embedded
        if field is not None and not deeper and (len(field) != 1 or WILDCARD in field):
            yield where, f"in the {place} a field is /name"
        elif place is Place.PATH and (field is None or field[0] not in segments):
            yield where, f"the path template has no such segment (it has: {', '.join(sorted(segments)) or 'none'})"
        elif place is Place.HEADER and (field is None or not _HEADER.fullmatch(field[0])):
            yield where, "a header is named, in lower case: /user-agent"
    for where, rule in hidden:
        if where[1] == "response" and rule.place is not Place.BODY:
            yield where, "of an answer the body is sanitised"
        if rule.place is Place.PATH and rule.action is SanitizeAction.DROP:
            yield where, "a path keeps its segments: mask it"
        if rule.place is Place.HEADER and rule.field is not None and _fixed(rule.field[0]):
            yield where, "this header carries the message itself, or is the gateway's own"


def _fixed(header: str) -> bool:
    return header in _FRAMING or header.startswith(REMOVED_HEADERS)


def _signature_problems(document: d.RouteDocument, protocol: c.Protocol) -> Iterator[Problem]:
    sanitize = document.sanitize
    if document.operation is c.Operation.NOTIFY:
        if sanitize.request or sanitize.response or sanitize.sign_again:
            yield ("sanitize",), "a notification's body is signed: changing a byte breaks its verification"
        return
    provider = protocol is not c.Protocol.PAYMESH
    verifies = provider if sanitize.service_verifies is None else sanitize.service_verifies
    # Headers are outside the providers' signatures, but RFC 9421 may cover any of them.
    covered = [
        rule for rule in sanitize.request if rule.place is not Place.HEADER or Scheme.HTTP_SIGNATURE in document.schemes
    ]
    if verifies and covered:
        why = "the service verifies the caller's signature over this: changing a byte breaks it"
        yield ("sanitize", "request"), f"{why}. service_verifies: false says that it does not"
    changes_body = any(rule.place is Place.BODY for rule in sanitize.response)
    if changes_body and protocol in VERIFIED_ANSWERS and not sanitize.sign_again:
        yield (
            ("sanitize", "response"),
            "SDKs verify these answers: changing a byte needs sign_again",
        )
    if sanitize.sign_again and protocol not in SIGNED_AGAIN:
        yield ("sanitize", "sign_again"), f"answers of {protocol} are not signed by this gateway"


def _overlap(one: JsonPointer, other: JsonPointer) -> bool:
    """Whether changing what one points at changes what the other points at."""
    return all(left in (right, WILDCARD) for left, right in zip(one, other, strict=False))
