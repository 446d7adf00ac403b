"""Owns finding one named part of a multipart/form-data body (RFC 7578, RFC 2046). Refuses what two readers could split
differently: a part without a name, the part twice, bytes around the parts, transfer encodings, continued headers."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_PARTS = 50
MEDIA_TYPE = "multipart/form-data"
_BOUNDARY = re.compile(
    r'(?:^|;)\s*boundary=(?:"([^"\\;]{1,70})"|([0-9A-Za-z\'()+_,./:=?-]{1,70}))\s*(?=;|$)', re.IGNORECASE
)
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*)")
_NAME = re.compile(rb';[ \t]*name="([^"\\\r\n]*)"')


class MultipartError(Exception):
    """The body is not acceptable multipart; the message names no value."""


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of a multipart/form-data content type; None for any other type. Raises MultipartError."""
    media_type, _, parameters = content_type.partition(";")
    if media_type.strip().lower() != MEDIA_TYPE:
        return None
    found = _BOUNDARY.findall(parameters)
    if len(found) != 1:
        raise MultipartError("multipart/form-data without one boundary")
    boundary: str = found[0][0] or found[0][1]
    return boundary.encode("latin-1", "replace")


@dataclass(frozen=True, slots=True)
class Part:
    """One part. Positions are bytes of the body: `start` at its delimiter, `end` after the line break that ends it."""

    name: bytes
    content_type: bytes | None
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
    dispositions, types = [], []
    for line in head.split(b"\r\n"):
        header = _HEADER.fullmatch(line)
        if header is None:
            raise MultipartError("a part's header is not readable")
        field = header.group(1).lower()
        if field == b"content-transfer-encoding" and header.group(2).strip().lower() not in (
            b"binary",
            b"8bit",
            b"7bit",
        ):
            raise MultipartError("a part has a transfer encoding")
        if field == b"content-disposition":
            dispositions.append(header.group(2))
        if field == b"content-type":
            types.append(header.group(2))
    names = [] if len(dispositions) != 1 else _NAME.findall(dispositions[0])
    if len(names) != 1 or b"name*" in dispositions[0]:
        raise MultipartError("a part does not have one name")
    if len(types) > 1:
        raise MultipartError("a part has two content types")
    begin = position + len(head) + 4
    return Part(
        name=names[0],
        content_type=types[0] if types else None,
        is_file=b"filename" in dispositions[0].lower(),
        start=position - delimiter_length - 2,
        content_start=begin,
        content_end=begin + len(content),
        end=begin + len(content) + 2,
    )
