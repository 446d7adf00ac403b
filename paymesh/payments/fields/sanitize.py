"""Owns applying a route's sanitise rules to a JSON body. Refuses to change any byte that no rule names.

Drop removes a member with one comma (in an array the element becomes null: the others keep their places, so sanitising
twice is still sanitising once). Mask and hash replace a value by a string; null stays null; an object or array under
mask or hash is replaced whole, since what is in it is not known. Of two rules where one covers the other, the outer
wins; of two for the same field, the first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from paymesh.payments.bodies.json_body import MISSING, JsonDocument, lookup, parse_json
from paymesh.payments.bodies.json_edit import DROP, Drop, edit, find_spans
from paymesh.payments.bodies.limits import DEFAULT_LIMITS, BodyLimits
from paymesh.payments.bodies.pointer import JsonPointer
from paymesh.payments.fields.masking import FULL_MASK, keyed_hash, mask
from paymesh.payments.policy.compiled import SanitizeAction, SanitizeRule


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to which field; never the value. `field` comes from the policy, not from the body."""

    field: JsonPointer
    action: SanitizeAction

    def __str__(self) -> str:
        tokens = (token.replace("~", "~0").replace("/", "~1") for token in self.field)
        return f"{self.action} /{'/'.join(tokens)}"


@dataclass(frozen=True, slots=True)
class Sanitized:
    """The body to send on: the very object given when nothing changed. `changed` is in the order of the rules."""

    body: bytes
    changed: tuple[Change, ...]


def sanitize_json(body: bytes, rules: tuple[SanitizeRule, ...], limits: BodyLimits = DEFAULT_LIMITS) -> Sanitized:
    """The body with the rules applied. Raises BodyError for what is not an acceptable JSON object."""
    document = parse_json(body, limits, object_only=True)
    edits: dict[JsonPointer, str | Drop] = {}
    changed = []
    for rule in _effective(rules):
        change = _change(document, rule)
        if change is not None:
            edits[rule.field] = change
            changed.append(Change(rule.field, rule.action))
    if not edits:
        return Sanitized(body, ())
    return Sanitized(edit(document, edits).encode(), tuple(changed))


def _effective(rules: tuple[SanitizeRule, ...]) -> list[SanitizeRule]:
    by_field: dict[JsonPointer, SanitizeRule] = {}
    for rule in rules:
        by_field.setdefault(rule.field, rule)
    return [
        rule
        for field, rule in by_field.items()
        if not any(field[:length] in by_field for length in range(1, len(field)))
    ]


def _change(document: JsonDocument, rule: SanitizeRule) -> str | Drop | None:
    """The new JSON text of the field, or None when it stays: missing, null, or already as it should be."""
    value = lookup(document.value, rule.field)
    if value is MISSING:
        return None
    if rule.action is SanitizeAction.DROP:
        if isinstance(lookup(document.value, rule.field[:-1]), dict):
            return DROP
        return None if value is None else "null"
    if value is None:
        return None
    replacement = _replacement(document, rule, value)
    return None if replacement == value else json.dumps(replacement, ensure_ascii=False)


def _replacement(document: JsonDocument, rule: SanitizeRule, value: object) -> str:
    if isinstance(value, dict | list):
        return FULL_MASK
    if not isinstance(value, str):
        # A number as the caller wrote it: 1.0 and 1 are two texts.
        span = find_spans(document, (rule.field,))[rule.field]
        value = document.text[span.value_start : span.value_end]
    if rule.action is SanitizeAction.MASK:
        return mask(rule.kind, value)
    if rule.hash_key is None:
        raise ValueError("a hash rule has a key")
    return keyed_hash(rule.hash_key, value)
