"""Owns compiling a route's rules about fields, and refusing those that would break a signature, change what was decided
on, or never match. Refuses I/O but for the secrets of `field_keys`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from paymesh.payments.bodies.limits import BodyLimits, Format, Reading
from paymesh.payments.bodies.pointer import JsonPointer
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy import field_documents as fd
from paymesh.payments.policy.callers import Scheme
from paymesh.payments.policy.field_rules import (
    CompareRule,
    FieldKey,
    FieldRule,
    KeyRing,
    MaskKind,
    Place,
    SanitizeAction,
    SanitizeRule,
    SumRule,
    Validation,
)
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.policy.values import SecretReference
from paymesh.payments.secrets import Secret

KEY_BYTES = 32
"""Of AES-256, and as long as HMAC-SHA256's own output."""
WILDCARD = "*"
_HEX_KEY = re.compile(rb"[0-9a-fA-F]{64}")
_TEMPLATE_NAME = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_FRAMING = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "te"}
)
_OURS = ("x-pay-", "x-request-id", "x-envoy-")

_SPOKEN: Mapping[c.Protocol, frozenset[Format]] = {
    c.Protocol.ALIPAY_V2: frozenset({Format.FORM}),
    c.Protocol.ALIPAY_V3: frozenset({Format.JSON, Format.MULTIPART}),
    c.Protocol.ALIPAY_NOTIFICATION: frozenset({Format.FORM}),
    c.Protocol.UNIONPAY: frozenset({Format.FORM}),
    c.Protocol.UNIONPAY_NOTIFICATION: frozenset({Format.FORM}),
}
_CHARSETS: Mapping[c.Protocol, str] = {c.Protocol.ALIPAY_V2: "charset", c.Protocol.UNIONPAY: "encoding"}
_EMBEDDED: Mapping[c.Protocol, frozenset[JsonPointer]] = {c.Protocol.ALIPAY_V2: frozenset({("biz_content",)})}

VERIFIED_ANSWERS = frozenset({c.Protocol.ALIPAY_V2, c.Protocol.ALIPAY_V3, c.Protocol.WECHAT_V3, c.Protocol.UNIONPAY})
"""Protocols whose SDKs verify what they hear (protocols.md section 4)."""
SIGNED_AGAIN = frozenset({c.Protocol.ALIPAY_V2, c.Protocol.ALIPAY_V3, c.Protocol.WECHAT_V3})
"""Those whose answers this gateway can sign."""
_WITHOUT_BODY_SIGNATURE = frozenset({Scheme.JWT, Scheme.MTLS})

Problem = tuple[DocumentPath, str]


@dataclass(frozen=True, slots=True)
class RouteFields:
    """The part of a compiled route that is about fields."""

    request_reading: Reading
    response_reading: Reading
    validation: Validation
    sanitize_request: tuple[SanitizeRule, ...]
    sanitize_head: tuple[SanitizeRule, ...]
    sanitize_response: tuple[SanitizeRule, ...]
    needs_body: bool


def compile_key_rings(documents: Sequence[fd.KeyRingDocument], findings: Findings) -> dict[str, KeyRing]:
    """Every ring by name. A ring is for one use: see `check_ring_uses`."""
    rings: dict[str, KeyRing] = {}
    for index, document in enumerate(documents):
        path: DocumentPath = ("field_keys", index)
        if document.name in rings:
            findings.problem((*path, "name"), f"{document.name} is defined twice")
        keys: dict[str, FieldKey] = {}
        for number, key in enumerate(document.keys):
            if key.id in keys:
                findings.problem((*path, "keys", number, "id"), f"key {key.id} is defined twice")
            secret = _key((*path, "keys", number, "secret"), key.secret, findings)
            since = None if key.valid_from is None else int(key.valid_from.timestamp())
            keys[key.id] = FieldKey(key.id, secret, since)
        if all(key.valid_from_s is not None for key in keys.values()):
            findings.problem((*path, "keys"), "one key has no valid_from, so that there is always one to use")
        rings[document.name] = KeyRing(document.name, tuple(keys.values()), keys)
    return rings


def _key(path: DocumentPath, reference: SecretReference, findings: Findings) -> Secret:
    secret = findings.secret(path, reference)
    if secret is None:
        return Secret(b"")
    written = secret.reveal()
    if _HEX_KEY.fullmatch(written):
        return Secret(bytes.fromhex(written.decode()))
    if len(written) != KEY_BYTES:
        findings.problem(path, f"the key has {len(written)} bytes, not {KEY_BYTES} (or 64 hex digits)")
    return secret


def check_ring_uses(routes: Sequence[d.RouteDocument], findings: Findings) -> None:
    """One key never serves two algorithms."""
    uses: dict[str, SanitizeAction] = {}
    for index, route in enumerate(routes):
        for direction in ("request", "response"):
            for number, rule in enumerate(getattr(route.sanitize, direction)):
                if rule.keys is not None and uses.setdefault(rule.keys, rule.action) is not rule.action:
                    path = ("routes", index, "sanitize", direction, number, "keys")
                    findings.problem(path, f"{rule.keys} is used for {uses[rule.keys]} already: take another ring")


def compile_route_fields(
    document: d.RouteDocument,
    path: DocumentPath,
    protocol: c.Protocol,
    rings: Mapping[str, KeyRing],
    findings: Findings,
) -> RouteFields:
    """Everything about fields; problems go to `findings`."""
    for place, message in _problems(document, protocol):
        findings.problem((*path, *place), message)
    decided = frozenset(place for _, place in decided_on(document.fields))
    limits = BodyLimits(document.max_body_bytes, document.body.max_depth, document.body.max_members)
    embedded = frozenset(document.body.embedded) | _EMBEDDED.get(protocol, frozenset())
    formats = document.body.formats
    reading = Reading(
        formats=_SPOKEN.get(protocol, frozenset({Format.JSON})) if formats is None else frozenset(formats),
        limits=limits,
        embedded=embedded,
        charset_parameter=_CHARSETS.get(protocol),
    )
    answers = Reading(
        limits=BodyLimits(document.max_response_bytes, limits.max_depth, limits.max_members),
        always=Format.JSON if protocol is c.Protocol.ALIPAY_V2 else None,
    )
    validation = _validation(document.validation)
    request = tuple(
        _rule(rule, (*path, "sanitize", "request", number), rings, decided, findings)
        for number, rule in enumerate(document.sanitize.request)
    )
    response = tuple(
        _rule(rule, (*path, "sanitize", "response", number), rings, frozenset(), findings)
        for number, rule in enumerate(document.sanitize.response)
    )
    return RouteFields(
        request_reading=reading,
        response_reading=answers,
        validation=validation,
        sanitize_request=tuple(rule for rule in request if rule.place is Place.BODY),
        sanitize_head=tuple(rule for rule in request if rule.place is not Place.BODY),
        sanitize_response=response,
        needs_body=_needs_body(document, validation),
    )


def decided_on(fields: fd.FieldsDocument) -> list[tuple[str, JsonPointer]]:
    """The body's fields that a payment is decided by, with the name of each fact."""
    found = [("order_no", place) for place in fields.order_no or () if fields.order_no_place is Place.BODY]
    named = (("amount", fields.amount), ("currency", fields.currency), ("product", fields.product))
    return found + [(name, place) for name, place in (*named, ("app_id", fields.app_id)) if place is not None]


def _validation(document: fd.ValidationDocument) -> Validation:
    return Validation(
        fields=tuple(_field_rule(rule) for rule in document.fields),
        sums=tuple(SumRule(rule.sum, rule.times, rule.equals) for rule in document.sums),
        comparisons=tuple(CompareRule(rule.compare, rule.relation, rule.to) for rule in document.comparisons),
    )


def _field_rule(document: fd.FieldRuleDocument) -> FieldRule:
    return FieldRule(
        field=document.field,
        place=document.place,
        required=document.required,
        type=document.type,
        kind=document.kind,
        pattern=None if document.pattern is None else re.compile(document.pattern),
        min_length=document.min_length,
        max_length=document.max_length,
        one_of=None if document.one_of is None else frozenset(map(str, document.one_of)),
        minimum=document.minimum,
        maximum=document.maximum,
        ahead_min_s=None if document.ahead is None else document.ahead.min,
        ahead_max_s=None if document.ahead is None else document.ahead.max,
    )


def _rule(
    document: fd.SanitizeRuleDocument,
    path: DocumentPath,
    rings: Mapping[str, KeyRing],
    decided: frozenset[JsonPointer],
    findings: Findings,
) -> SanitizeRule:
    ring = None if document.keys is None else rings.get(document.keys)
    if document.keys is not None and ring is None:
        findings.unknown((*path, "keys"), "field_keys", document.keys, rings)
    return SanitizeRule(
        action=document.action,
        field=document.field,
        place=document.place,
        detect=frozenset(document.detect),
        kind=document.kind or MaskKind.ALL,
        keep=document.keep,
        keys=ring,
        spares=decided if document.detect and document.place is Place.BODY else frozenset(),
    )


def _needs_body(document: d.RouteDocument, validation: Validation) -> bool:
    signed = any(scheme not in _WITHOUT_BODY_SIGNATURE for scheme in document.schemes)
    compared = bool(document.schemes) and document.idempotency_key is not c.IdempotencyKey.IGNORED
    only_reads = bool(document.match.methods) and set(document.match.methods) <= {"GET", "HEAD"}
    asked = bool(decided_on(document.fields)) or bool(document.fields.required)
    hidden = any(rule.place is Place.BODY for rule in document.sanitize.request)
    return signed or asked or validation.reads_body or hidden or (compared and not only_reads)


# -- what is refused ---------------------------------------------------------------------------------------------------


def _problems(document: d.RouteDocument, protocol: c.Protocol) -> Iterator[Problem]:
    yield from _place_problems(document)
    yield from _signature_problems(document, protocol)
    for name, place in decided_on(document.fields):
        if WILDCARD in place:
            yield ("fields", name), "one payment has one of it: * is for rules"
        for number, rule in enumerate(document.sanitize.request):
            if not rule.detect and rule.field and rule.place is Place.BODY and _overlap(rule.field, place):
                yield ("sanitize", "request", number), f"must not change the {name} that was decided on"
    fields = document.fields
    for number, rule in enumerate(document.sanitize.request):
        if rule.place is fields.order_no_place is not Place.BODY and rule.field in (fields.order_no or ()):
            yield ("sanitize", "request", number), "must not change the order_no that was decided on"
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


def _items(pointer: JsonPointer) -> JsonPointer:
    return pointer[: pointer.index(WILDCARD)] if WILDCARD in pointer else pointer


def _place_problems(document: d.RouteDocument) -> Iterator[Problem]:
    segments = set(_TEMPLATE_NAME.findall(document.match.path_template or ""))
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
        if field is not None and (len(field) != 1 or WILDCARD in field):
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
    return header in _FRAMING or header.startswith(_OURS)


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
