"""Owns naming places in a document: JSON pointers (RFC 6901), already taken apart."""

from __future__ import annotations

JsonPointer = tuple[str, ...]
"""A path into a document: object member names (RFC 6901 reference tokens, unescaped)."""
WILDCARD = "*"
"""As a token of a rule's pointer: every element of an array."""


def show_pointer(pointer: JsonPointer) -> str:
    """As an operator writes it, and as a caller reads it: `/amount/total`."""
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in pointer)
