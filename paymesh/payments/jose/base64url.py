"""Owns base64url as JOSE writes it (RFC 7515 section 2). Refuses every second spelling of the same bytes."""

from __future__ import annotations

import base64
import binascii
import re

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


def decode_base64url(text: str) -> bytes | None:
    """The bytes; None for padding, white space, other characters, or unused bits that are not zero."""
    if not _ALPHABET.fullmatch(text):
        return None
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None
    # A last character with unused bits set decodes to the same bytes: two spellings of one signature.
    return decoded if encode_base64url(decoded) == text else None


def encode_base64url(data: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
