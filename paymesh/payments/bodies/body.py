"""Owns the one reading of a body or a query, and editing named places of it. Refuses what another parser could read
differently, and to change a byte outside the places named.

A body is a tree whatever its format: a JSON document, a form's parameters, a multipart body's parts, with the documents
embedded in their texts. Pointers name places in the tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from paymesh.payments.bodies import form
from paymesh.payments.bodies.content_type import ContentType, parse_content_type
from paymesh.payments.bodies.edits import DROP, Edit, FilePart, Replace, Splice
from paymesh.payments.bodies.errors import BodyError, BodyErrorKind
from paymesh.payments.bodies.json_tree import JsonTree, read_json
from paymesh.payments.bodies.limits import Format, Reading
from paymesh.payments.bodies.multipart import MEDIA_TYPE as MULTIPART_TYPE
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

_NO_TYPE = ContentType("", {})
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
    declared = parse_content_type(content_type) if content_type else _NO_TYPE
    if reading.always is Format.JSON:
        return Written(Format.JSON, _codec(declared, _ANSWER_CHARSETS))
    found = _format(declared)
    if found is None or found not in reading.formats:
        names = ", ".join(sorted(reading.formats))
        raise BodyError(BodyErrorKind.CONTENT_TYPE, f"the content type is none that is read here ({names})")
    if found is Format.FORM:
        return Written(found, declared.charset)
    codec = _codec(declared, _JSON_CHARSETS)
    return Written(found, codec) if found is Format.JSON else Written(found, codec, declared.boundary)


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
    if not query.isascii():
        raise BodyError(BodyErrorKind.ENCODING, "the query is not ASCII (RFC 3986 section 2)")
    return form.read_form(
        query.encode("ascii"),
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


def _format(declared: ContentType) -> Format | None:
    if declared.is_json:
        return Format.JSON
    return {form.MEDIA_TYPE: Format.FORM, MULTIPART_TYPE: Format.MULTIPART}.get(declared.media_type)


def _codec(declared: ContentType, known: Mapping[str, str]) -> str:
    codec = known.get("utf-8" if declared.charset is None else declared.charset)
    if codec is None:
        raise BodyError(BodyErrorKind.CONTENT_TYPE, f"the charset is none of {', '.join(sorted(known))}")
    return codec
