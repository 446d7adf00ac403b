"""Owns compiling a route's rules about fields. Refuses I/O but for the secrets of `field_keys`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paymesh.payments.bodies.limits import BodyLimits, Format, Reading
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy import field_documents as fd
from paymesh.payments.policy.callers import Scheme
from paymesh.payments.policy.field_checks import Decided, decided_on, embedded_in, field_problems
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
_HEX_KEY = re.compile(rb"[0-9a-fA-F]{64}")
_SPOKEN: Mapping[c.Protocol, frozenset[Format]] = {
    c.Protocol.ALIPAY_V2: frozenset({Format.FORM}),
    c.Protocol.ALIPAY_V3: frozenset({Format.JSON, Format.MULTIPART}),
    c.Protocol.ALIPAY_NOTIFICATION: frozenset({Format.FORM}),
    c.Protocol.UNIONPAY: frozenset({Format.FORM}),
    c.Protocol.UNIONPAY_NOTIFICATION: frozenset({Format.FORM}),
}
_CHARSETS: Mapping[c.Protocol, str] = {c.Protocol.ALIPAY_V2: "charset", c.Protocol.UNIONPAY: "encoding"}
_WITHOUT_BODY_SIGNATURE = frozenset({Scheme.JWT, Scheme.MTLS})


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
    for place, message in field_problems(document, protocol):
        findings.problem((*path, *place), message)
    decided = decided_on(document.fields, protocol)
    limits = BodyLimits(document.max_body_bytes, document.body.max_depth, document.body.max_members)
    formats = document.body.formats
    reading = Reading(
        formats=_SPOKEN.get(protocol, frozenset({Format.JSON})) if formats is None else frozenset(formats),
        limits=limits,
        embedded=embedded_in(document, protocol),
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
        _rule(rule, (*path, "sanitize", "response", number), rings, [], findings)
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
    decided: Sequence[Decided],
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
        spares=frozenset(pointer for _, place, pointer in decided if document.detect and place is document.place),
    )


def _needs_body(document: d.RouteDocument, validation: Validation) -> bool:
    signed = any(scheme not in _WITHOUT_BODY_SIGNATURE for scheme in document.schemes)
    compared = bool(document.schemes) and document.idempotency_key is not c.IdempotencyKey.IGNORED
    only_reads = bool(document.match.methods) and set(document.match.methods) <= {"GET", "HEAD"}
    facts = decided_on(document.fields, c.Protocol.PAYMESH)
    asked = any(place is Place.BODY for _, place, _ in facts) or bool(document.fields.required)
    hidden = any(rule.place is Place.BODY for rule in document.sanitize.request)
    return signed or asked or validation.reads_body or hidden or (compared and not only_reads)
