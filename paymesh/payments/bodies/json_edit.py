"""Owns changing named places of a JSON text. Refuses to touch any other character: nothing is parsed and written again.

The text is that of a `JsonDocument`, so it is known to be valid and free of duplicate members. Only the containers on
the way to a wanted place are walked in Python; everything beside the way is skipped by the C scanner.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed lacks the C scanner

from paymesh.payments.bodies.edits import DROP, Cut, Drop, spliced
from paymesh.payments.bodies.json_body import JsonDocument, end_of_white_space
from paymesh.payments.bodies.pointer import JsonPointer


@dataclass(frozen=True, slots=True)
class Span:
    """Where a member or element stands. Positions are characters of the text; ends are exclusive."""

    container: int
    """The bracket that opens the object or array it is in; -1 for the whole document."""
    index: int
    """Its place among its siblings, from 0."""
    start: int
    """After the bracket or comma before it, so white space is included."""
    key_start: int | None
    """The quote that opens its name; None in an array."""
    value_start: int
    value_end: int
    end: int
    """The comma or bracket after it."""
    is_last: bool


@dataclass(slots=True)
class _Wanted:
    pointer: JsonPointer | None = None
    children: dict[str, _Wanted] = field(default_factory=dict)


def find_spans(document: JsonDocument, pointers: Collection[JsonPointer]) -> dict[JsonPointer, Span]:
    """The places of those pointers that exist. Names match however they are escaped in the text."""
    root = _Wanted()
    for pointer in pointers:
        node = root
        for token in pointer:
            node = node.children.setdefault(token, _Wanted())
        node.pointer = pointer
    start = end_of_white_space(document.text, 0)
    spans: dict[JsonPointer, Span] = {}
    end = _walk(document.text, start, root, spans)
    if root.pointer is not None:
        spans[root.pointer] = Span(-1, 0, 0, None, start, end, len(document.text), True)
    return spans


def edit(document: JsonDocument, edits: Mapping[JsonPointer, str | Drop]) -> str:
    """The text with each value replaced by the JSON text given, or dropped with exactly one comma.

    A pointer that is not there changes nothing; an edit inside a place that is itself edited is covered by it.
    """
    return spliced(document.text, cuts_of(find_spans(document, edits), edits))


def cuts_of(spans: Mapping[JsonPointer, Span], edits: Mapping[JsonPointer, str | Drop]) -> list[Cut]:
    """What `edit` cuts out of the text and puts in. ValueError: the whole document cannot be dropped."""
    dropped = {(span.container, span.index) for pointer, span in spans.items() if edits[pointer] is DROP}
    return [_cut(span, edits[pointer], dropped) for pointer, span in spans.items()]


def _cut(span: Span, change: str | Drop, dropped: set[tuple[int, int]]) -> Cut:
    if isinstance(change, str):
        return span.value_start, span.value_end, change
    if span.container < 0:
        raise ValueError("the whole document cannot be dropped")
    # The comma before goes with a member, unless all before it go too: then the comma after does.
    leads = all((span.container, before) in dropped for before in range(span.index))
    if leads:
        return span.start, span.end if span.is_last else span.end + 1, ""
    return span.start - 1, span.end, ""


def _walk(text: str, start: int, wanted: _Wanted, spans: dict[JsonPointer, Span]) -> int:
    """Walk the value at `start` as far as something in it is wanted; where it ends."""
    if not wanted.children or text[start] not in "{[":
        return _SKIP.raw_decode(text, start)[1]
    in_object = text[start] == "{"
    position, index = start + 1, 0
    while True:
        begin = position
        position = end_of_white_space(text, position)
        if text[position] in "}]":
            return position + 1
        key_start = position if in_object else None
        token = str(index)
        if in_object:
            token, position = scanstring(text, position + 1, True)
            position = end_of_white_space(text, end_of_white_space(text, position) + 1)
        child = wanted.children.get(token, _NOTHING)
        value_end = _walk(text, position, child, spans)
        end = end_of_white_space(text, value_end)
        is_last = text[end] != ","
        if child.pointer is not None:
            spans[child.pointer] = Span(start, index, begin, key_start, position, value_end, end, is_last)
        if is_last:
            return end + 1
        position, index = end + 1, index + 1


_NOTHING = _Wanted()
_SKIP = json.JSONDecoder()
