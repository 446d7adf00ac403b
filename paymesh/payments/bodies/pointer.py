"""Owns naming places in a document: JSON pointers (RFC 6901), already taken apart."""

from __future__ import annotations

JsonPointer = tuple[str, ...]
"""A path into a document: object member names (RFC 6901 reference tokens, unescaped)."""
WILDCARD = "*"
"""As a token of a rule's pointer: every element of an array."""


def parse_pointer(text: str) -> JsonPointer:
    """Raises ValueError for what is no pointer to a member."""
    if not text.startswith("/") or len(text) < 2:
        raise ValueError("a field is a JSON pointer (RFC 6901), such as /amount/total")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/"))


def show_pointer(pointer: JsonPointer) -> str:
    """As an operator writes it, and as a caller reads it: `/amount/total`."""
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in pointer)
