"""Owns the one reading of a body or a query, and editing named places of it. Refuses what another parser could read
differently, and to change a byte outside the places named.

A body is a tree whatever its format: a JSON document, a form's parameters, a multipart body's parts, with the documents
embedded in their texts. Pointers name places in the tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from paymesh.payments.bodies import form
from paymesh.payments.bodies.edits import DROP, Edit, FilePart, Replace, Splice
from paymesh.payments.bodies.errors import BodyError, BodyErrorKind
from paymesh.payments.bodies.json_tree import JsonTree, read_json
from paymesh.payments.bodies.limits import Format, Reading
from paymesh.payments.bodies.multipart import MEDIA_TYPE as MULTIPART_TYPE
from paymesh.payments.bodies.multipart import MultipartError, boundary_of
from paymesh.payments.bodies.parts import read_parts
from paymesh.payments.bodies.pointer import JsonPointer

__all__ = [
    "DROP",
    "Body",
    "Edit",
    "FilePart",
    "Replace",
    "Splice",
    "Written",
    "read_body",
    "read_query",
    "written_as",
]

_JSON_TYPE = re.compile(r"application/(?:[a-z0-9.!#$&^_-]+\+)?json")
_CHARSET = re.compile(r";\s*charset\s*=\s*(?:\"([^\"]*)\"|([^;\s\"]*))\s*(?=;|$)", re.IGNORECASE)
_JSON_CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8"}
_ANSWER_CHARSETS = {**_JSON_CHARSETS, "gbk": "gbk", "gb2312": "gbk", "gb18030": "gb18030"}


class Body(Protocol):
    """A body that was read."""

    @property
    def value(self) -> object:
        """The tree: dict, list, str, int, Decimal, bool, None, FilePart; embedded documents in their place."""
        ...

    def texts(self) -> Iterator[tuple[JsonPointer, str]]:
        """Every text, and every number as text, with its pointer."""
        ...

    def edit(self, edits: Mapping[JsonPointer, Edit]) -> bytes:
        """The bytes with those places changed and all others as they were. A pointer that is not there changes
        nothing; an edit inside a place that is itself edited is covered by it."""
        ...


class Written(NamedTuple):
    """What a content type says. `charset` is a codec's name; None where it does not say."""

    format: Format
    charset: str | None = None
    boundary: bytes = b""


def written_as(content_type: str | None, reading: Reading) -> Written:
    """How a body is written. Raises BodyError for a format that the route does not read, and for a broken type."""
    media_type, _, _ = (content_type or "").partition(";")
    charset = _charset(content_type or "")
    if reading.always is Format.JSON:
        return Written(Format.JSON, _codec(charset, _ANSWER_CHARSETS))
    found = _format(media_type.strip().lower())
    if found is None or found not in reading.formats:
        names = ", ".join(sorted(reading.formats))
        raise BodyError(BodyErrorKind.CONTENT_TYPE, f"the content type is none that is read here ({names})")
    if found is Format.JSON:
        return Written(found, _codec(charset, _JSON_CHARSETS))
    if found is Format.FORM:
        return Written(found, charset)
    try:
        boundary = boundary_of(content_type or "")
    except MultipartError as error:
        raise BodyError(BodyErrorKind.CONTENT_TYPE, str(error)) from None
    assert boundary is not None  # it is multipart/form-data
    return Written(found, None, boundary)


def read_body(body: bytes, content_type: str | None, reading: Reading, *, object_only: bool = True) -> Body:
    """The body, or BodyError; no other exception, whatever the bytes. `object_only`: of JSON, only an object."""
    written = written_as(content_type, reading)
    if written.format is Format.FORM:
        return form.read_form(
            body,
            reading.limits,
            reading.embedded,
            charset=written.charset,
            charset_parameter=reading.charset_parameter,
        )
    if written.format is Format.MULTIPART:
        return read_parts(body, written.boundary, reading.limits, reading.embedded)
    charset = written.charset or "utf-8"
    tree = read_json(body, reading.limits, reading.embedded, object_only=object_only, charset=charset)
    return _JsonBody(body, charset, tree)


def read_query(query: str, reading: Reading) -> Body:
    """A query string as Envoy holds it, without its question mark. Raises BodyError."""
    return form.read_form(
        query.encode("utf-8", "surrogateescape"),
        reading.limits,
        reading.embedded,
        charset_parameter=reading.charset_parameter,
        is_query=True,
    )


@dataclass(frozen=True, slots=True)
class _JsonBody:
    source: bytes
    charset: str
    tree: JsonTree

    @property
    def value(self) -> object:
        return self.tree.value

    def texts(self) -> Iterator[tuple[JsonPointer, str]]:
        return self.tree.texts()

    def edit(self, edits: Mapping[JsonPointer, Edit]) -> bytes:
        text = self.tree.edit(edits) if edits else self.tree.document.text
        if text == self.tree.document.text:
            return self.source
        try:
            return text.encode(self.charset)
        except UnicodeEncodeError:
            raise BodyError(BodyErrorKind.ENCODING, f"a replacement cannot be written in {self.charset}") from None


def _format(media_type: str) -> Format | None:
    if _JSON_TYPE.fullmatch(media_type):
        return Format.JSON
    return {form.MEDIA_TYPE: Format.FORM, MULTIPART_TYPE: Format.MULTIPART}.get(media_type)


def _charset(content_type: str) -> str | None:
    if ";" not in content_type:
        return None
    named = [quoted or plain for quoted, plain in _CHARSET.findall(content_type)]
    if len(named) > 1:
        raise BodyError(BodyErrorKind.CONTENT_TYPE, "the content type names two charsets")
    return named[0] if named else None


def _codec(charset: str | None, known: Mapping[str, str]) -> str | None:
    if charset is None:
        return None
    codec = known.get(charset.strip().lower())
    if codec is None:
        raise BodyError(BodyErrorKind.CONTENT_TYPE, f"the charset is none of {', '.join(sorted(known))}")
    return codec
