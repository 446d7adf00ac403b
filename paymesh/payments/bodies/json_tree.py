"""Owns a JSON body with the documents embedded in its texts: its tree, its texts, and edits of single spans."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from paymesh.payments.bodies.edits import DROP, Cut, Drop, Edit, Replace, Splice, spliced
from paymesh.payments.bodies.errors import BodyError, BodyErrorKind
from paymesh.payments.bodies.json_body import MISSING, JsonDocument, check_shape, lookup, parse_json
from paymesh.payments.bodies.json_edit import Span, cuts_of, find_spans
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.bodies.offsets import in_json_string, moved
from paymesh.payments.bodies.pointer import JsonPointer


@dataclass(frozen=True, slots=True)
class JsonTree:
    """`value` has the embedded documents in the place of their texts."""

    document: JsonDocument
    value: object
    embedded: Mapping[JsonPointer, JsonTree]
    """Those of this very document; what is embedded in them is theirs."""

    def sources(self) -> Iterator[str]:
        """The texts that all of it was read from."""
        yield self.document.text
        for tree in self.embedded.values():
            yield from tree.sources()

    def texts(self) -> Iterator[tuple[JsonPointer, str]]:
        """Every text and number, in order; an embedded document's own texts instead of the one it is written in."""
        return texts_of(self.value)

    def cuts(self, edits: Mapping[JsonPointer, Edit]) -> list[Cut]:
        """The edits as ranges of the document's text."""
        plain, inner = apart(edits, self.embedded)
        spans = find_spans(self.document, {*plain, *inner})
        written: dict[JsonPointer, str | Drop] = {}
        cuts: list[Cut] = []
        for pointer, span in spans.items():
            if pointer in plain:
                change = self._written(pointer, plain[pointer], span)
                if isinstance(change, list):
                    cuts += change
                else:
                    written[pointer] = change
            else:
                cuts += self._within(span, self.embedded[pointer].cuts(inner[pointer]))
        changed = {pointer: spans[pointer] for pointer in written}
        return cuts + cuts_of(changed, written)

    def edit(self, edits: Mapping[JsonPointer, Edit]) -> str:
        return spliced(self.document.text, self.cuts(edits))

    def _written(self, pointer: JsonPointer, change: Edit, span: Span) -> str | Drop | list[Cut]:
        if isinstance(change, Replace):
            return _quoted(change.text)
        if isinstance(change, Splice):
            if self.document.text[span.value_start] == '"':
                return self._within(span, change.parts)
            found = lookup(self.value, pointer)
            if isinstance(found, bool) or not isinstance(found, int | Decimal):
                return []  # no text
            # A number becomes the text that is left of it.
            return _quoted(spliced(str(found), change.parts))
        return "null" if isinstance(lookup(self.value, pointer[:-1]), list) else DROP

    def _within(self, span: Span, parts: Iterable[Cut]) -> list[Cut]:
        """Ranges of a string's characters as ranges of the document."""
        begin, end = span.value_start + 1, span.value_end - 1
        raw = self.document.text[begin:end]
        return moved(parts, in_json_string(raw), lambda new: _quoted(new)[1:-1], begin)


def read_json(
    body: bytes, limits: BodyLimits, embedded: frozenset[JsonPointer], *, object_only: bool, charset: str = "utf-8"
) -> JsonTree:
    """The tree. Raises BodyError."""
    document = parse_json(body, limits, object_only=object_only, charset=charset)
    value, inner = with_embedded(document.value, embedded, limits)
    tree = JsonTree(document, value, inner)
    if inner:
        check_shape(tuple(tree.sources()), value, limits)
    return tree


def with_embedded(
    value: object, embedded: frozenset[JsonPointer], limits: BodyLimits
) -> tuple[object, dict[JsonPointer, JsonTree]]:
    """The value with every text at these pointers read as a document. It is changed in place. Raises BodyError.

    Each document reads what is embedded in it; the limits hold for it alone: who has them all checks the whole.
    """
    found: dict[JsonPointer, JsonTree] = {}
    for pointer in sorted(embedded, key=len):
        if any(pointer[: len(outer)] == outer for outer in found):
            continue
        text = lookup(value, pointer)
        if text is MISSING or text is None or text == "":
            continue
        if not isinstance(text, str):
            raise BodyError(BodyErrorKind.NOT_JSON, "what is to be an embedded document is no text")
        deeper = replace(limits, max_depth=max(1, limits.max_depth - len(pointer)))
        inside = below(embedded, pointer)
        tree = read_json(text.encode("utf-8", "surrogatepass"), deeper, inside, object_only=True)
        parent = lookup(value, pointer[:-1])
        if isinstance(parent, dict):
            parent[pointer[-1]] = tree.value
        elif isinstance(parent, list):
            parent[int(pointer[-1])] = tree.value
        found[pointer] = tree
    return value, found


def below(embedded: frozenset[JsonPointer], pointer: JsonPointer) -> frozenset[JsonPointer]:
    """Those pointers that reach further than this one, from its place on."""
    length = len(pointer)
    return frozenset(other[length:] for other in embedded if len(other) > length and other[:length] == pointer)


def apart(
    edits: Mapping[JsonPointer, Edit], embedded: Mapping[JsonPointer, object]
) -> tuple[dict[JsonPointer, Edit], dict[JsonPointer, dict[JsonPointer, Edit]]]:
    """The edits of the document itself, and those inside each embedded one, by their pointers in there."""
    plain: dict[JsonPointer, Edit] = {}
    inner: dict[JsonPointer, dict[JsonPointer, Edit]] = {}
    for pointer, change in edits.items():
        outer = next(
            (place for place in embedded if len(place) < len(pointer) and pointer[: len(place)] == place), None
        )
        if outer is None:
            plain[pointer] = change
        elif not any(pointer[:length] in edits for length in range(1, len(outer) + 1)):
            inner.setdefault(outer, {})[pointer[len(outer) :]] = change
    return plain, inner


def texts_of(value: object, at: JsonPointer = ()) -> Iterator[tuple[JsonPointer, str]]:
    """The texts and numbers of a tree with their pointers."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from texts_of(inner, (*at, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from texts_of(inner, (*at, str(number)))
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        yield at, str(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
