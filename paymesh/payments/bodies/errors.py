"""Owns why a body is not read. Refuses values: an error tells where and why, never what was there."""

from __future__ import annotations

import enum

from paymesh.payments.bodies.pointer import JsonPointer
from paymesh.payments.denial import Denial, Reason


class BodyErrorKind(enum.StrEnum):
    """Why a body is not read."""

    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    TRAILING_DATA = "trailing_data"
    DUPLICATE_KEY = "duplicate_key"
    ENCODING = "encoding"
    """Bytes that are not the charset's, or a charset that is not read or said in two ways."""
    SURROGATE = "surrogate"
    NUMBER = "number"
    DEPTH = "depth"
    SIZE = "size"
    MEMBERS = "members"
    CONTENT_TYPE = "content_type"
    """Not a format that the route reads, or not well formed."""
    FORM = "form"
    """Not the form or the parts that its content type says it is."""


class BodyError(Exception):
    """The body is not acceptable. `pointer` is set only where it names something the caller asked for."""

    def __init__(self, kind: BodyErrorKind, message: str, pointer: JsonPointer | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.pointer = pointer


_REASONS = {
    BodyErrorKind.DUPLICATE_KEY: Reason.BODY_DUPLICATE_KEY,
    BodyErrorKind.SIZE: Reason.BODY_TOO_LARGE,
    BodyErrorKind.CONTENT_TYPE: Reason.CONTENT_UNSUPPORTED,
}


def body_denial(error: BodyError, what: str = "") -> Denial:
    """The refusal for a body, or for `what` of a message, that is not read."""
    detail = f"{what}: {error}" if what else str(error)
    return Denial(_REASONS.get(error.kind, Reason.BODY_MALFORMED), detail, told=(detail,))
