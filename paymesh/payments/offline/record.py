"""Owns what a record of an offline payment may say, and making it of the values that a message or a file holds.

Refuses whatever names a person or a card, so that it can be kept as long as books are: the note is free text and is
refused if a detector finds something in it. Every violation is told at once, by its field and never by its value.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from paymesh.payments.events.types import OfflineMethod, OfflineRecorded, ToldBy
from paymesh.payments.fields.currency_codes import ALPHABETIC
from paymesh.payments.fields.detect import find
from paymesh.payments.money import MAX_MINOR_UNITS
from paymesh.payments.policy.field_rules import Detector

MAX_NUMBER_CHARS = 64
MAX_NOTE_CHARS = 200
NUMBER_PATTERN = f"^[A-Za-z0-9_-]{{1,{MAX_NUMBER_CHARS}}}$"
"""Of a reference, a store, a terminal: no colon (the event's id has them), no slash or dot (a URL's path has them)."""
ORDER_PATTERN = f"^[A-Za-z0-9_*|.-]{{1,{MAX_NUMBER_CHARS}}}$"
"""Of an order: what the channels take."""
NOTE_PATTERN = f"^[^\\u0000-\\u001f\\u007f-\\u009f]{{1,{MAX_NOTE_CHARS}}}$"
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$"
"""RFC 3339 section 5.6, with an offset; fractions of a second are dropped."""
EARLIEST = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
MAX_AHEAD_S = 300
"""How far a till's clock may be ahead."""
FIELDS = ("reference", "amount", "currency", "method", "paid_at", "order_no", "store", "terminal", "note")
REQUIRED = frozenset({"reference", "amount", "currency", "method", "paid_at"})
_PERSONAL = frozenset(Detector)
_OF_NUMBERS = frozenset({Detector.PAN, Detector.RESIDENT_ID})
"""What a number must not look like. Not a phone: eleven digits are an ordinary receipt's number."""


@dataclass(frozen=True, slots=True)
class Violation:
    """`what` is wrong with a field, in words that follow its name."""

    field: str
    what: str


@dataclass(frozen=True, slots=True)
class Teller:
    """Who tells of a payment, and when: microseconds since 1970. `actor`: who, where it is an operator."""

    merchant: str
    at_us: int
    told_by: ToldBy
    actor: str = ""


class _WrongError(ValueError):
    """A value is refused; the text is a violation's `what`."""


def make_record(values: Mapping[str, object], teller: Teller) -> OfflineRecorded | tuple[Violation, ...]:
    """The record, or everything that is wrong with the values, in the order of FIELDS. What is absent is not told."""
    found: dict[str, Any] = {}
    violations = []
    for field in FIELDS:
        try:
            if field in values or field in REQUIRED:
                found[field] = _read(field, values)
        except _WrongError as error:
            violations.append(Violation(field, str(error)))
    paid_at = found.pop("paid_at", None)
    if paid_at is not None and paid_at > teller.at_us // 1_000_000 + MAX_AHEAD_S:
        violations.append(Violation("paid_at", "is in the future"))
    if violations:
        return tuple(sorted(violations, key=lambda one: FIELDS.index(one.field)))
    return OfflineRecorded(
        merchant=teller.merchant,
        at_us=teller.at_us,
        told_by=teller.told_by,
        actor=teller.actor,
        paid_at_s=paid_at,
        **found,
    )


def _read(field: str, values: Mapping[str, object]) -> object:
    if field not in values:
        raise _WrongError("is missing")
    return _READERS[field](values[field])


def may_be_reference(text: str) -> bool:
    """Whether a record may stand under it."""
    return bool(_NUMBER.fullmatch(text))


def rfc3339(seconds: int) -> str:
    """A Unix time as it is written in answers: UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_NUMBER, _ORDER, _NOTE, _TIME = (
    re.compile(pattern.removeprefix("^").removesuffix("$"), re.ASCII)
    for pattern in (NUMBER_PATTERN, ORDER_PATTERN, NOTE_PATTERN, TIME_PATTERN)
)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _WrongError("is no text")
    return value


def _numbering(pattern: re.Pattern[str], characters: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = _text(value)
        if not pattern.fullmatch(text):
            raise _WrongError(f"is not 1 to {MAX_NUMBER_CHARS} of {characters}")
        _refuse_found(text, _OF_NUMBERS)
        return text

    return read


def _amount(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _WrongError("is no whole number: minor units, such as fen")
    if not 0 < value <= MAX_MINOR_UNITS:
        raise _WrongError(f"is not between 1 and {MAX_MINOR_UNITS} minor units")
    return value


def _currency(value: object) -> str:
    text = _text(value)
    if text not in ALPHABETIC:
        raise _WrongError("is no currency: three capital letters of ISO 4217")
    return text


def _method(value: object) -> OfflineMethod:
    try:
        return OfflineMethod(_text(value))
    except ValueError as error:
        if isinstance(error, _WrongError):
            raise
        raise _WrongError(f"is none of {', '.join(OfflineMethod)}") from None


def _paid_at(value: object) -> int:
    text = _text(value)
    if not _TIME.fullmatch(text):
        raise _WrongError("is no time with an offset, such as 2026-03-01T12:30:00+08:00 (RFC 3339)")
    try:
        # Nanoseconds are more than Python reads; a leap second is none of a till's.
        read = datetime.datetime.fromisoformat(re.sub(r"\.[0-9]+", "", text))
        seconds = int(read.timestamp())
    except (ValueError, OverflowError):
        raise _WrongError("is no time that there was") from None
    if read < EARLIEST:
        raise _WrongError(f"is before {EARLIEST.year}")
    return seconds


def _note(value: object) -> str:
    text = _text(value)
    if not _NOTE.fullmatch(text):
        raise _WrongError(f"is not one line of 1 to {MAX_NOTE_CHARS} characters")
    _refuse_found(text, _PERSONAL)
    return text


def _refuse_found(text: str, kinds: Collection[Detector]) -> None:
    names = sorted({str(found.kind) for found in find(text, frozenset(kinds))})
    if names:
        raise _WrongError(f"holds what looks like personal data: {', '.join(names)}")


_READERS: Mapping[str, Callable[[object], Any]] = {
    "reference": _numbering(_NUMBER, "A-Z a-z 0-9 _ -"),
    "amount": _amount,
    "currency": _currency,
    "method": _method,
    "paid_at": _paid_at,
    "order_no": _numbering(_ORDER, "A-Z a-z 0-9 _ * | . -"),
    "store": _numbering(_NUMBER, "A-Z a-z 0-9 _ -"),
    "terminal": _numbering(_NUMBER, "A-Z a-z 0-9 _ -"),
    "note": _note,
}
