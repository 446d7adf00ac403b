"""Owns reading the Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07, section 2.1).

Refuses everything but one structured-field string: a token, a list, parameters. The draft defines no parameters, and a
service behind that compares the header as text would take two spellings of one key for two payments.
"""

from __future__ import annotations

import enum

import http_sf

MAX_KEY_CHARS = 255
_MAX_FIELD_CHARS = 2 * MAX_KEY_CHARS + 2
"""Every character escaped, and the quotes."""


class IdempotencyKeyProblem(enum.Enum):
    """Why a value is no key, in words for the caller. Not a `str`, so that none is taken for a key."""

    NOT_A_STRING = "Idempotency-Key is not one quoted string"
    EMPTY = "Idempotency-Key is empty"
    TOO_LONG = "Idempotency-Key is longer than 255 characters"


def parse_idempotency_key(value: str) -> str | IdempotencyKeyProblem:
    """The key, 1 to 255 printable ASCII characters without their quotes and escapes; or what is wrong."""
    if len(value) > _MAX_FIELD_CHARS:
        return IdempotencyKeyProblem.TOO_LONG
    try:
        parsed = http_sf.parse(value.encode("ascii"), tltype="item")
    except ValueError:  # http_sf's own error, or text outside ASCII
        return IdempotencyKeyProblem.NOT_A_STRING
    key, parameters = parsed if isinstance(parsed, tuple) else (parsed, {})
    if not isinstance(key, str) or parameters:
        return IdempotencyKeyProblem.NOT_A_STRING
    if len(key) > MAX_KEY_CHARS:
        return IdempotencyKeyProblem.TOO_LONG
    return key or IdempotencyKeyProblem.EMPTY
