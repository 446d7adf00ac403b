"""Owns applying a route's sanitise rules to a body. Refuses to change any byte that no rule names.

Drop removes a member with one comma (in an array the element becomes null: the others keep their places, so sanitising
twice is still sanitising once). Every other action replaces a value by a text; null stays null; a whole object or array
is hashed and encrypted as its compact JSON, and masked as `***`; a file is dropped. Of two rules where one covers the
other, the outer wins; of two for the same field, the first; what a field's rule replaces is not searched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from paymesh.payments.bodies.body import DROP, Body, Edit, FilePart, Replace, Splice, read_body
from paymesh.payments.bodies.json_body import MISSING, lookup
from paymesh.payments.bodies.limits import Reading
from paymesh.payments.bodies.pointer import JsonPointer, show_pointer
from paymesh.payments.fields.detect import might_hold
from paymesh.payments.fields.hiding import Hidden, hide, hide_found
from paymesh.payments.fields.masking import FULL_MASK
from paymesh.payments.fields.wildcard import covers, places
from paymesh.payments.policy.field_rules import Detector, Place, SanitizeAction, SanitizeRule


@dataclass(frozen=True, slots=True)
class Change:
    """What was done by which rule, and how often; never the value, nor a name that only the message had."""

    rule: SanitizeRule
    times: int = 1

    @property
    def action(self) -> SanitizeAction:
        return self.rule.action

    def __str__(self) -> str:
        where = "" if self.rule.field is None else f" {show_pointer(self.rule.field)}"
        what = f" {'+'.join(sorted(self.rule.detect))}" if self.rule.detect else ""
        place = "" if self.rule.place is Place.BODY else f" ({self.rule.place})"
        often = "" if self.times == 1 else f" x{self.times}"
        return f"{self.rule.action}{what}{where}{place}{often}"


@dataclass(frozen=True, slots=True)
class Sanitized:
    """The body to send on: the very object given when nothing changed. `changed` is in the order of the rules."""

    body: bytes
    changed: tuple[Change, ...]


def sanitize_body(
    body: bytes, content_type: str | None, reading: Reading, rules: tuple[SanitizeRule, ...], now_s: int
) -> Sanitized:
    """The body with these rules of bodies applied. Raises BodyError for what is no acceptable body; an empty one is."""
    if not body or not rules:
        return Sanitized(body, ())
    read = read_body(body, content_type, reading, object_only=False)
    edits, changed = edits_of(read, rules, now_s, search=_may_hold(body, reading, rules))
    return Sanitized(read.edit(edits), changed) if edits else Sanitized(body, ())


def edits_of(
    read: Body, rules: tuple[SanitizeRule, ...], now_s: int, *, search: bool = True
) -> tuple[dict[JsonPointer, Edit], tuple[Change, ...]]:
    """What the rules change of a body or a query, and what is to be said of it. `search`: whether to use detectors."""
    edits: dict[JsonPointer, Edit] = {}
    counts = [0] * len(rules)
    whole = _whole_fields(read.value, rules)
    for pointer, number in whole.items():
        change = _edit(read.value, pointer, rules[number], now_s)
        if change is not None:
            edits[pointer] = change
            counts[number] += 1
    if search and any(rule.detect for rule in rules):
        _search(read, rules, whole, edits, counts, now_s)
    return edits, tuple(Change(rule, count) for rule, count in zip(rules, counts, strict=True) if count)


def _whole_fields(value: object, rules: tuple[SanitizeRule, ...]) -> dict[JsonPointer, int]:
    """Which rule each field has, by its number: the outer before the inner, the first before the second."""
    found: dict[JsonPointer, int] = {}
    for number, rule in enumerate(rules):
        if rule.field is not None and not rule.detect:
            for pointer in places(value, rule.field):
                found.setdefault(pointer, number)
    return {
        pointer: number
        for pointer, number in found.items()
        if not any(pointer[:length] in found for length in range(1, len(pointer)))
    }


def _edit(value: object, pointer: JsonPointer, rule: SanitizeRule, now_s: int) -> Edit | None:
    """None where nothing changes: missing, null, or already as it should be."""
    found = lookup(value, pointer)
    if found is MISSING or (found is None and rule.action is not SanitizeAction.DROP):
        return None
    if rule.action is SanitizeAction.DROP:
        # A dropped element of an array is null from then on.
        return None if found is None and isinstance(lookup(value, pointer[:-1]), list) else DROP
    if isinstance(found, FilePart):
        return DROP
    hidden = hide(rule, _text(found, rule.action), now_s)
    return None if hidden is None or hidden == found else Replace(hidden)


def _text(found: object, action: SanitizeAction) -> str:
    if isinstance(found, str):
        return found
    if not isinstance(found, dict | list):
        return str(found)
    if action in (SanitizeAction.HASH, SanitizeAction.ENCRYPT):
        return json.dumps(found, ensure_ascii=False, separators=(",", ":"), default=str)
    return FULL_MASK  # what is in it is not known


def _search(
    read: Body,
    rules: tuple[SanitizeRule, ...],
    whole: Mapping[JsonPointer, int],
    edits: dict[JsonPointer, Edit],
    counts: list[int],
    now_s: int,
) -> None:
    detecting = [(number, rule) for number, rule in enumerate(rules) if rule.detect]
    for pointer, text in read.texts():
        if whole and any(pointer[:length] in whole for length in range(1, len(pointer) + 1)):
            continue
        hidden: list[Hidden] = []
        for number, rule in detecting:
            if pointer not in rule.spares and (rule.field is None or covers(rule.field, pointer)):
                counts[number] += hide_found(rule, text, now_s, hidden)
        if hidden:
            edits[pointer] = Splice(tuple(sorted(hidden)))


def _may_hold(body: bytes, reading: Reading, rules: tuple[SanitizeRule, ...]) -> bool:
    """Whether a search could find anything: asked of the whole body, before its texts are walked one by one."""
    kinds: frozenset[Detector] = frozenset().union(*(rule.detect for rule in rules))
    # Escapes hide digits, and only JSON's are looked for here; a charset other than UTF-8 hides full-width ones.
    if not kinds or b"\\u" in body or body[:1] != b"{" or reading.always is not None:
        return bool(kinds)
    return might_hold(body.decode("utf-8", "replace"), kinds)
