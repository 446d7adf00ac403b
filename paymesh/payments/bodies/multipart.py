"""Owns finding one named part of a multipart/form-data body (RFC 7578, RFC 2046). Refuses what two readers could split
differently: a part without a name, the part twice, bytes around the parts, transfer encodings, continued headers."""

from __future__ import annotations

import re

MAX_PARTS = 50
_MEDIA_TYPE = "multipart/form-data"
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
    if media_type.strip().lower() != _MEDIA_TYPE:
        return None
    found = _BOUNDARY.findall(parameters)
    if len(found) != 1:
        raise MultipartError("multipart/form-data without one boundary")
    boundary: str = found[0][0] or found[0][1]
    return boundary.encode("latin-1", "replace")


def single_part(body: bytes, boundary: bytes, name: str) -> bytes:
    """The content of the one part with this name. Raises MultipartError."""
    delimiter = b"--" + boundary
    end = b"\r\n" + delimiter + b"--"
    content = body.removesuffix(b"\r\n")
    if not content.startswith(delimiter + b"\r\n") or not content.endswith(end):
        raise MultipartError("the parts are not between their boundaries")
    inner = content[len(delimiter) + 2 : -len(end)]
    parts = inner.split(b"\r\n" + delimiter + b"\r\n", MAX_PARTS)
    if len(parts) > MAX_PARTS:
        raise MultipartError(f"more than {MAX_PARTS} parts")
    if any(delimiter in part for part in parts):
        # Another reader may take a bare CR or LF, white space after the boundary, or nothing at all for a part's end.
        raise MultipartError("a boundary stands inside a part")
    found = [content for part_name, content in map(_read_part, parts) if part_name == name.encode()]
    if len(found) != 1:
        raise MultipartError(f"there is not exactly one part {name}")
    return found[0]


def _read_part(part: bytes) -> tuple[bytes, bytes]:
    head, separator, content = part.partition(b"\r\n\r\n")
    if not separator:
        raise MultipartError("a part has no headers")
    dispositions = []
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
    names = [] if len(dispositions) != 1 else _NAME.findall(dispositions[0])
    if len(names) != 1 or b"name*" in dispositions[0]:
        raise MultipartError("a part does not have one name")
    return names[0], content
