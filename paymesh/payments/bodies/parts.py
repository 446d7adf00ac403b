"""Owns a multipart/form-data body as a tree: text parts, JSON parts and files, edited in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from paymesh.payments.bodies.edits import Cut, Edit, FilePart, Replace, Splice, spliced
from paymesh.payments.bodies.errors import BodyError, BodyErrorKind
from paymesh.payments.bodies.json_body import refuse_one_name_in_two_cases
from paymesh.payments.bodies.json_tree import JsonTree, apart, read_json, texts_of
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.bodies.multipart import MultipartError, Part, parts_of
from paymesh.payments.bodies.pointer import JsonPointer

_JSON_TYPE = b"application/json"


@dataclass(frozen=True, slots=True)
class Parts:
    """A multipart body that was read; `source` is what it was read from."""

    source: bytes
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
        return spliced(self.source.decode("latin-1"), cuts).encode("latin-1") if cuts else self.source

    def _cuts(self, name: str, part: Part, change: Edit) -> list[Cut]:
        if isinstance(change, Replace | Splice) and isinstance(self.value[name], FilePart):
            raise ValueError("a file is dropped or left")  # noqa: TRY004 - of the edit, not of a type
        if isinstance(change, Replace):
            text = change.text
            if (name,) in self.embedded:
                text = f'"{text}"'  # what stands for a whole document has no character that JSON escapes
            return [(part.content_start, part.content_end, _bytes(text))]
        if isinstance(change, Splice):
            return self._within(part, change.parts)
        return [(part.start, part.end, "")]

    def _within(self, part: Part, cuts: tuple[Cut, ...] | list[Cut]) -> list[Cut]:
        """Ranges of a part's characters as ranges of the source."""
        content = self.source[part.content_start : part.content_end]
        text = content.decode()
        at: list[int] | range = range(len(text) + 1)
        if len(text) != len(content):
            at, position = [0], 0
            for character in text:
                position += len(character.encode())
                at.append(position)
        begin = part.content_start
        return [(begin + at[start], begin + at[end], _bytes(new)) for start, end, new in cuts]


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
        media_type = (part.content_type or b"").partition(b";")[0].strip().lower()
        if media_type == _JSON_TYPE or (name,) in embedded:
            trees[(name,)] = read_json(content, limits, frozenset(), object_only=False)
            values[name] = trees[(name,)].value
        elif part.is_file:
            values[name] = FilePart(len(content))
        else:
            values[name] = _text(content)
    if len(places) > 1:
        refuse_one_name_in_two_cases(places)
    return Parts(body, places, values, trees)


def _bytes(text: str) -> str:
    return text.encode("utf-8").decode("latin-1")


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BodyError(BodyErrorKind.ENCODING, "a part is not UTF-8") from None
