"""Owns finding the parts of a multipart/form-data body (RFC 7578, RFC 2046). Refuses what two readers could split
differently: a part without a name, the part twice, bytes around the parts, transfer encodings, continued headers, and
a text in any charset but UTF-8."""

from __future__ import annotations

import re
from dataclasses import dataclass

from paymesh.payments.bodies.content_type import ContentType, parse_content_type
from paymesh.payments.bodies.errors import BodyError

MAX_PARTS = 50
MEDIA_TYPE = "multipart/form-data"
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_FORM_DATA = re.compile(rb"form-data[ \t]*", re.IGNORECASE)
# Names in lower case without `*`, and values without a backslash: there readers differ (RFC 7578 section 4.2).
_PARAMETER = re.compile(rb';[ \t]*([a-z0-9_-]+)=(?:"([^"\\]*)"|([!#$%&\'*+.^_`|~0-9A-Za-z-]+))[ \t]*')
_QUOTED = (b"name", b"filename")
_TEXT_CHARSETS = (None, "utf-8", "us-ascii")


class MultipartError(Exception):
    """The body is not acceptable multipart; the message names no value."""


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of a multipart/form-data content type; None for any other type. Raises MultipartError."""
    if content_type.partition(";")[0].strip().lower() != MEDIA_TYPE:
        return None
    try:
        return parse_content_type(content_type).boundary
    except BodyError as error:
        raise MultipartError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Part:
    """One part. Positions are bytes of the body: `start` at its delimiter, `end` after the line break that ends it."""

    name: bytes
    is_json: bool
    is_file: bool
    start: int
    content_start: int
    content_end: int
    end: int


def parts_of(body: bytes, boundary: bytes) -> list[Part]:
    """Every part, in order. Raises MultipartError."""
    delimiter = b"--" + boundary
    end = b"\r\n" + delimiter + b"--"
    content = body.removesuffix(b"\r\n")
    if content == delimiter + b"--":
        return []  # a form without fields
    if not content.startswith(delimiter + b"\r\n") or not content.endswith(end):
        raise MultipartError("the parts are not between their boundaries")
    position = len(delimiter) + 2
    parts = content[position : -len(end)].split(b"\r\n" + delimiter + b"\r\n", MAX_PARTS)
    if len(parts) > MAX_PARTS:
        raise MultipartError(f"more than {MAX_PARTS} parts")
    if any(delimiter in part for part in parts):
        # Another reader may take a bare CR or LF, white space after the boundary, or nothing at all for a part's end.
        raise MultipartError("a boundary stands inside a part")
    found = []
    for part in parts:
        found.append(_read_part(part, position, len(delimiter)))
        position += len(part) + len(delimiter) + 4
    return found


def single_part(body: bytes, boundary: bytes, name: str) -> bytes:
    """The content of the one part with this name. Raises MultipartError."""
    found = [part for part in parts_of(body, boundary) if part.name == name.encode()]
    if len(found) != 1:
        raise MultipartError(f"there is not exactly one part {name}")
    return body[found[0].content_start : found[0].content_end]


def _read_part(part: bytes, position: int, delimiter_length: int) -> Part:
    head, separator, content = part.partition(b"\r\n\r\n")
    if not separator:
        raise MultipartError("a part has no headers")
    headers = _headers(head)
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in (b"binary", b"8bit", b"7bit"):
        raise MultipartError("a part has a transfer encoding")
    names = _disposition(headers.get(b"content-disposition", b""))
    # Go, among others, takes a part with an empty file name for a text.
    is_file = bool(names.get(b"filename"))
    content_type = _content_type(headers)
    if content_type.charset not in _TEXT_CHARSETS and not is_file:
        raise MultipartError("a part's charset is not UTF-8")
    begin = position + len(head) + len(separator)
    return Part(
        name=names[b"name"],
        is_json=content_type.is_json,
        is_file=is_file,
        start=position - delimiter_length - 2,
        content_start=begin,
        content_end=begin + len(content),
        end=begin + len(content) + 2,
    )


def _headers(head: bytes) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        header = _HEADER.fullmatch(line)
        if header is None or header[1].lower() in headers:
            raise MultipartError("a part's header is not readable, or came twice")
        headers[header[1].lower()] = header[2].strip()
    return headers


def _disposition(value: bytes) -> dict[bytes, bytes]:
    """The parameters of a part's content-disposition; name, and filename if there is one, are in quotes."""
    match = _FORM_DATA.match(value)
    found: dict[bytes, bytes] = {}
    while match is not None and match.end() < len(value):
        match = _PARAMETER.match(value, match.end())
        if match is None or match[1] in found or (match[1] in _QUOTED and match[2] is None):
            break
        found[match[1]] = match[2] or b""
    else:
        if b"name" in found:
            return found
    raise MultipartError("a part does not have one name")


def _content_type(headers: dict[bytes, bytes]) -> ContentType:
    try:
        return parse_content_type(headers.get(b"content-type", b"text/plain").decode("latin-1"))
    except BodyError:
        raise MultipartError("a part's content type is malformed") from None
