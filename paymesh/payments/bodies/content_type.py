"""Owns taking a content type apart (RFC 9110 section 8.3). Refuses to guess: one that is malformed, or says something
twice, is an error."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from paymesh.payments.bodies.errors import BodyError, BodyErrorKind

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the RFC's word
_TYPE = re.compile(rf"[ \t]*({_TOKEN}/{_TOKEN})[ \t]*(?=;|\Z)")
# A boundary may come unquoted with characters that are no token's: RFC 2046 allows them in it.
_PARAMETER = re.compile(
    rf';[ \t]*(?:({_TOKEN})=(?:"([^"\\\x00-\x08\x0a-\x1f\x7f-\U0010ffff]*)"|([!#-:<-\[\]-~]+))[ \t]*)?(?=;|\Z)'
)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


@dataclass(frozen=True, slots=True)
class ContentType:
    """A content type taken apart. Type and parameter names are lower case."""

    media_type: str
    parameters: Mapping[str, str]

    @property
    def charset(self) -> str | None:
        """In lower case; None: not said."""
        charset = self.parameters.get("charset")
        return None if charset is None else charset.lower()

    @property
    def boundary(self) -> bytes:
        """Of multipart (RFC 2046 section 5.1.1). BodyError(CONTENT_TYPE): there is none, or it is malformed."""
        boundary = self.parameters.get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            raise _refused("has no boundary, or one that is malformed")
        return boundary.encode("ascii")

    @property
    def is_json(self) -> bool:
        """RFC 8259, and RFC 6839 section 3.1 for `+json`."""
        main, _, kind = self.media_type.partition("/")
        return main == "application" and (kind == "json" or kind.endswith("+json"))


@functools.lru_cache(maxsize=256)
def parse_content_type(text: str) -> ContentType:
    """Take a header's value apart. BodyError(CONTENT_TYPE): malformed, or a parameter twice. Callers send few of them,
    so the last ones are remembered."""
    match = _TYPE.match(text)
    if match is None:
        raise _refused("is malformed")
    media_type = match[1].lower()
    parameters: dict[str, str] = {}
    position = match.end()
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None:
            raise _refused("is malformed")
        position = match.end()
        if match[1] is None:
            continue  # `;;` and a last `;`: no parameter
        name = match[1].lower()
        if name in parameters:
            raise _refused("names two charsets" if name == "charset" else "has a parameter twice")
        if "*" in name:
            raise _refused("has a parameter as RFC 2231 writes it, which not all readers know")
        parameters[name] = match[3] if match[2] is None else match[2]
    return ContentType(media_type, parameters)


def _refused(why: str) -> BodyError:
    return BodyError(BodyErrorKind.CONTENT_TYPE, f"the content type {why}")
