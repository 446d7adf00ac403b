"""Owns forms: parameters of a query or an application/x-www-form-urlencoded body, read byte for byte, edited in place.

Refuses whatever two readers could take differently: a name twice (also in other case), a broken percent-escape, bytes
that are not the charset's, a body that is no form. Source of the encoding: WHATWG URL, section 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote_plus, unquote_to_bytes

from paymesh.payments.bodies.edits import DROP, Cut, Edit, Replace, Splice, spliced
from paymesh.payments.bodies.errors import BodyError, BodyErrorKind
from paymesh.payments.bodies.json_body import check_shape, refuse_one_name_in_two_cases
from paymesh.payments.bodies.json_tree import JsonTree, apart, texts_of, with_embedded
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.bodies.offsets import in_percent_encoding, moved
from paymesh.payments.bodies.pointer import JsonPointer

MEDIA_TYPE = "application/x-www-form-urlencoded"
CHARSETS: Mapping[str, str] = {"utf-8": "utf-8", "utf8": "utf-8", "gbk": "gbk", "gb2312": "gbk"}
"""What a form may be written in, with the codec's name."""
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f][0-9A-Fa-f])")
_NO_NAME = re.compile(r"[\x00-\x1f\x7f\"<>{}]")
"""What a name of a parameter never holds, but another format that is called a form does."""
_AMPERSAND = ord("&")
_UNTOUCHED = "*-._"
"""What the encoding leaves as it is, beside letters and digits."""


Parameter = tuple[bytes, bytes | None, bytes]
"""Name and value, decoded once (None: there is no `=`), and the segment between two `&` that they were read from, with
spaces for its plus signs."""


class Place(NamedTuple):
    """Where a parameter stands. Positions are bytes of the source."""

    value: bytes
    """Decoded once."""
    start: int
    value_start: int
    end: int
    has_equals: bool


def parameters(encoded: bytes, at_most: int) -> list[Parameter]:
    """Every parameter, in order; empty segments are none. Raises BodyError."""
    if not encoded:
        return []
    # A plus is a space wherever it stands, and both are one byte.
    segments = encoded.replace(b"+", b" ").split(b"&", at_most)
    if len(segments) > at_most:
        raise BodyError(BodyErrorKind.MEMBERS, f"more than {at_most} parameters")
    if b"%" in encoded and _BROKEN_ESCAPE.search(encoded):
        raise BodyError(BodyErrorKind.ENCODING, "a percent-escape is broken")
    found: list[Parameter] = []
    for segment in segments:
        name, equals, value = segment.partition(b"=")
        if b"%" in name:
            name = unquote_to_bytes(name)
        if b"%" in value:
            value = unquote_to_bytes(value)
        if equals:
            found.append((name, value, segment))
        elif segment:
            found.append((name, None, segment))
    return found


@dataclass(frozen=True, slots=True)
class Form:
    """A form that was read; `source` is what it was read from."""

    source: bytes
    charset: str
    places: Mapping[str, Place]
    value: Mapping[str, object]
    embedded: Mapping[JsonPointer, JsonTree]

    def texts(self) -> Iterator[tuple[JsonPointer, str]]:
        return texts_of(self.value)

    def edit(self, edits: Mapping[JsonPointer, Edit]) -> bytes:
        """The form with those values replaced. Raises BodyError for a text that its charset cannot write."""
        plain, inner = apart(edits, self.embedded)
        gone = {name for (name, *rest), change in plain.items() if change is DROP and not rest and name in self.places}
        if len(gone) == len(self.places):
            return b"" if gone else self.source
        cuts = [self._without(name, gone) for name in gone]
        for (name, *rest), change in plain.items():
            place = self.places.get(name)
            if place is None or rest:
                continue
            if isinstance(change, Replace):
                equals = "" if place.has_equals else "="
                cuts.append((place.value_start, place.end, equals + self._encoded(change.text)))
            elif isinstance(change, Splice):
                cuts += self._within(place, change.parts)
        for (name, *_), changes in inner.items():
            cuts += self._within(self.places[name], self.embedded[(name,)].cuts(changes))
        edited = spliced(self.source.decode("latin-1"), cuts).encode("latin-1") if cuts else self.source
        return self.source if edited == self.source else edited

    def _without(self, name: str, gone: set[str]) -> Cut:
        place = self.places[name]
        leads = all(before in gone for before, other in self.places.items() if other.start < place.start)
        if leads and self.source[place.end : place.end + 1]:
            return place.start, place.end + 1, ""
        return (place.start if leads else place.start - 1), place.end, ""

    def _within(self, place: Place, parts: Iterable[Cut]) -> list[Cut]:
        """Ranges of a value's characters as ranges of the source."""
        raw = self.source[place.value_start : place.end]
        offsets = in_percent_encoding(raw, place.value.decode(self.charset), self.charset)
        return moved(parts, offsets, self._encoded, place.value_start)

    def _encoded(self, text: str) -> str:
        try:
            return quote_plus(text, safe=_UNTOUCHED, encoding=self.charset, errors="strict")
        except UnicodeEncodeError:
            raise BodyError(BodyErrorKind.ENCODING, f"a replacement cannot be written in {self.charset}") from None


def read_form(
    source: bytes,
    limits: BodyLimits,
    embedded: frozenset[JsonPointer],
    *,
    charset: str | None = None,
    charset_parameter: str | None = None,
    is_query: bool = False,
) -> Form:
    """The form, or BodyError. `charset`: what the content type says; a parameter that says another one is refused."""
    if len(source) > limits.max_bytes:
        raise BodyError(BodyErrorKind.SIZE, f"the body is longer than {limits.max_bytes} bytes")
    found = parameters(source, limits.max_members)
    codec = _charset(found, charset, charset_parameter)
    places: dict[str, Place] = {}
    values: dict[str, object] = {}
    position = 0
    for raw_name, raw_value, segment in found:
        if raw_value is None and not is_query:
            raise BodyError(BodyErrorKind.FORM, "the body is no form: a part of it has no `=`")
        name = _name(raw_name, codec)
        if name in places:
            raise BodyError(BodyErrorKind.DUPLICATE_KEY, "a parameter came twice")
        while source[position] == _AMPERSAND:
            position += 1
        places[name] = _place(raw_value, segment, position)
        position += len(segment)
        values[name] = _text(raw_value or b"", codec)
    if len(places) > 1:
        refuse_one_name_in_two_cases(places)
    inner: dict[JsonPointer, JsonTree] = {}
    if embedded:
        _, inner = with_embedded(values, embedded, limits)
        check_shape(tuple(text for tree in inner.values() for text in tree.sources()), values, limits, len(values))
    return Form(source, codec, places, values, inner)


def _place(value: bytes | None, segment: bytes, start: int) -> Place:
    end = start + len(segment)
    if value is None:
        return Place(b"", start, end, end, False)
    return Place(value, start, start + segment.index(b"=") + 1, end, True)


def _name(raw: bytes, codec: str) -> str:
    name = _text(raw, codec)
    if not name or _NO_NAME.search(name):
        raise BodyError(BodyErrorKind.FORM, "the body is no form: a name in it is not one")
    return name


def _charset(found: list[Parameter], declared: str | None, charset_parameter: str | None) -> str:
    named = None
    if charset_parameter is not None:
        wanted = charset_parameter.encode()
        named = next((value for name, value, _ in found if name == wanted), None)
    said = [declared] if declared is not None else []
    said += [named.decode("ascii", "replace")] if named else []
    codecs = {CHARSETS.get(one.strip().lower()) for one in said} or {"utf-8"}
    if len(codecs) > 1:
        raise BodyError(BodyErrorKind.CONTENT_TYPE, "the content type and the form name two charsets")
    codec = codecs.pop()
    if codec is None:
        raise BodyError(BodyErrorKind.CONTENT_TYPE, "the charset is neither utf-8 nor gbk")
    return codec


def _text(value: bytes, codec: str) -> str:
    try:
        return value.decode(codec)
    except UnicodeDecodeError:
        raise BodyError(BodyErrorKind.ENCODING, f"a value is not {codec}") from None
