"""Owns what a body may be at most, and in which formats a route reads it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from paymesh.payments.bodies.pointer import JsonPointer


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may be at most. `max_members` counts object members and array elements of the whole document."""

    max_bytes: int = 1 << 20
    max_depth: int = 32
    max_members: int = 10_000


DEFAULT_LIMITS = BodyLimits()


class Format(enum.StrEnum):
    """How a body is written."""

    JSON = "json"
    FORM = "form"
    """application/x-www-form-urlencoded; also a query."""
    MULTIPART = "multipart"
    """multipart/form-data."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How one route reads the bodies of one direction."""

    formats: frozenset[Format] = frozenset({Format.JSON})
    """A body of another format is refused (415)."""
    limits: BodyLimits = DEFAULT_LIMITS
    embedded: frozenset[JsonPointer] = frozenset()
    """Texts that hold a JSON document, which pointers reach into (Alipay's `biz_content`)."""
    charset_parameter: str | None = None
    """Name of the form parameter that says its charset (Alipay `charset`, UnionPay `encoding`)."""
    always: Format | None = None
    """The format whatever the content type says: Alipay v2 answers are JSON called text/html."""


DEFAULT_READING = Reading()
