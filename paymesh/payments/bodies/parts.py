"""Owns a multipart/form-data body as a tree: text parts, JSON parts and files, edited in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from paymesh.payments.bodies.edits import DROP, Cut, Edit, FilePart, Replace, spliced
from paymesh.payments.bodies.errors import BodyError, BodyErrorKind
from paymesh.payments.bodies.json_body import check_shape, refuse_one_name_in_two_cases
from paymesh.payments.bodies.json_tree import JsonTree, apart, below, read_json, texts_of
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.bodies.multipart import MultipartError, Part, parts_of
from paymesh.payments.bodies.offsets import in_bytes, moved
from paymesh.payments.bodies.pointer import JsonPointer


@dataclass(frozen=True, slots=True)
class Parts:
    """A multipart body that was read; `source` is what it was read from."""

    source: bytes
    boundary: bytes
    places: Mapping[str, Part]
    value: Mapping[str, object]
    embedded: Mapping[JsonPointer, JsonTree]

    def texts(self) -> Iterator[tuple[JsonPointer, str]]:
        return texts_of(self.value)

    def edit(self, edits: Mapping[JsonPointer, Edit]) -> bytes:
        """The body with those parts replaced; a dropped one goes with its boundary. A file can only be dropped."""
        plain, inner = apart(edits, self.embedded)
        cuts: list[Cut] = []
        for (name, *rest), change in plain.items():
            part = self.places.get(name)
            if part is not None and not rest:
                cuts += self._cuts(name, part, change)
        for (name, *_), changes in inner.items():
            cuts += self._within(self.places[name], self.embedded[(name,)].cuts(changes))
        if not cuts:
            return self.source
        edited = spliced(self.source.decode("latin-1"), cuts).encode("latin-1")
        gone = sum(1 for (name, *rest), change in plain.items() if change is DROP and not rest and name in self.places)
        if edited.count(b"--" + self.boundary) != len(self.places) - gone + 1:
            # Hiding what stood between the pieces of a boundary would let the sender end a part where we see none end.
            raise BodyError(BodyErrorKind.FORM, "a boundary would come into being inside a part")
        return self.source if edited == self.source else edited

    def _cuts(self, name: str, part: Part, change: Edit) -> list[Cut]:
        if change is DROP:
            return [(part.start, part.end, "")]
        if isinstance(self.value[name], FilePart):
            raise ValueError("a file is dropped or left")  # noqa: TRY004 - of the edit, not of a type
        if (name,) in self.embedded:
            return self._within(part, self.embedded[(name,)].cuts({(): change}))
        if isinstance(change, Replace):
            return [(part.content_start, part.content_end, _bytes(change.text))]
        return self._within(part, change.parts)

    def _within(self, part: Part, cuts: Iterable[Cut]) -> list[Cut]:
        """Ranges of a part's characters as ranges of the source."""
        text = self.source[part.content_start : part.content_end].decode()
        return moved(cuts, in_bytes(text, "utf-8"), _bytes, part.content_start)


def read_parts(body: bytes, boundary: bytes, limits: BodyLimits, embedded: frozenset[JsonPointer]) -> Parts:
    """The body's parts. Raises BodyError."""
    if len(body) > limits.max_bytes:
        raise BodyError(BodyErrorKind.SIZE, f"the body is longer than {limits.max_bytes} bytes")
    try:
        parts = parts_of(body, boundary)
    except MultipartError as error:
        raise BodyError(BodyErrorKind.FORM, str(error)) from None
    places: dict[str, Part] = {}
    values: dict[str, object] = {}
    trees: dict[JsonPointer, JsonTree] = {}
    for part in parts:
        name = _text(part.name)
        if name in places:
            raise BodyError(BodyErrorKind.DUPLICATE_KEY, "a part came twice")
        places[name] = part
        content = body[part.content_start : part.content_end]
        if part.is_json or (name,) in embedded:
            trees[(name,)] = read_json(content, limits, below(embedded, (name,)), object_only=False)
            values[name] = trees[(name,)].value
        elif part.is_file:
            values[name] = FilePart(len(content))
        else:
            values[name] = _text(content)
    if len(places) > 1:
        refuse_one_name_in_two_cases(places)
    if trees:
        check_shape(tuple(text for tree in trees.values() for text in tree.sources()), values, limits, len(values))
    return Parts(body, boundary, places, values, trees)


def _bytes(text: str) -> str:
    try:
        return text.encode("utf-8").decode("latin-1")
    except UnicodeEncodeError:
        raise BodyError(BodyErrorKind.ENCODING, "a replacement cannot be written in utf-8") from None


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BodyError(BodyErrorKind.ENCODING, "a part is not UTF-8") from None
