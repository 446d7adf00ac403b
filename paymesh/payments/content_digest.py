"""Owns Content-Digest (RFC 9530): whether the digests that a sender names are those of the body that arrived.

Refuses a field that is no dictionary of byte sequences, a digest named twice or not spelled as an encoder spells it,
and a field without an algorithm that still withstands attack (RFC 9530 section 5): sha-256, sha-512.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import NoReturn, cast

import http_sf

MAX_FIELD_CHARS = 1024
"""All eight registered algorithms together take less than half of it."""
_ALGORITHMS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}

Members = Mapping[str, tuple[object, Mapping[str, object]]]
"""Each member of a structured dictionary with its parameters."""


def content_digest_problem(value: str, body: bytes) -> str | None:
    """What is wrong with a Content-Digest for this body, never its content; None if every digest we know is right.

    Other algorithms are ignored (RFC 9530 section 2), and do not count. Compares in constant time.
    """
    if len(value) > MAX_FIELD_CHARS:
        return "content-digest is too long"
    members = parse_dictionary(value)
    if members is None:
        return "content-digest is not a dictionary of digests, each named once"
    digests = {name: digest for name, (digest, _) in members.items() if isinstance(digest, bytes)}
    if len(digests) != len(members):
        return "content-digest has a member that is no byte sequence"
    known = {name: digest for name, digest in digests.items() if name in _ALGORITHMS}
    if not known:
        return "content-digest has neither sha-256 nor sha-512"
    if not all(spells(value, digest) for digest in known.values()):
        return "content-digest is not in canonical base64"
    right = [hmac.compare_digest(_ALGORITHMS[name](body).digest(), digest) for name, digest in known.items()]
    return None if all(right) else "content-digest is not the body's"


def parse_dictionary(value: str) -> Members | None:
    """A structured-field dictionary (RFC 9651 section 3.2) in which nothing stands twice; None for anything else.

    The RFC lets the last of two equal keys win; a reader that takes the first would see another message.
    """
    try:
        parsed = http_sf.parse(value.encode("ascii"), tltype="dictionary", on_duplicate_key=_refuse)
    except ValueError:  # http_sf's own error, text outside ASCII, something twice
        return None
    # A parsed member is always a pair; the library's type also allows what may be serialised.
    return cast(Members, parsed)


def spells(text: str, data: bytes) -> bool:
    """Whether `data` stands in `text` as an encoder writes it: padded, and without bits that decoders drop."""
    return f":{base64.b64encode(data).decode()}:" in text


def _refuse(key: str, where: str) -> NoReturn:  # noqa: ARG001
    raise ValueError("a key stands twice")
