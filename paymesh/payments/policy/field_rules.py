"""Owns the compiled rules about fields: what they must be, and how they are hidden. Refuses I/O."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from paymesh.payments.bodies.pointer import JsonPointer
from paymesh.payments.secrets import Secret


class Place(enum.StrEnum):
    """Which part of a message a field stands in."""

    BODY = "body"
    QUERY = "query"
    PATH = "path"
    """A named segment of the route's path template."""
    HEADER = "header"


class Kind(enum.StrEnum):
    """What a field's value is, which decides what is valid (protocols.md section 5)."""

    ORDER_NO = "order_no"
    AMOUNT = "amount"
    CURRENCY = "currency"
    PAN = "pan"
    PHONE = "phone"
    RESIDENT_ID = "resident_id"
    USCC = "uscc"
    """Unified social credit code (GB 32100)."""
    BANK_ACCOUNT = "bank_account"
    IP = "ip"
    EMAIL = "email"
    URL = "url"
    TIMESTAMP = "timestamp"


class Detector(enum.StrEnum):
    """What is looked for in free text."""

    PAN = "pan"
    PHONE = "phone"
    RESIDENT_ID = "resident_id"
    EMAIL = "email"
    BANK_ACCOUNT = "bank_account"


class SanitizeAction(enum.StrEnum):
    DROP = "drop"
    MASK = "mask"
    TRUNCATE = "truncate"
    HASH = "hash"
    ENCRYPT = "encrypt"


class MaskKind(enum.StrEnum):
    """What a masked value is, which decides what stays readable (protocols.md section 5)."""

    PHONE = "phone"
    RESIDENT_ID = "resident_id"
    PAN = "pan"
    EMAIL = "email"
    BANK_ACCOUNT = "bank_account"
    NAME = "name"
    ORDER_NO = "order_no"
    ALL = "all"


class UnreadableAnswers(enum.StrEnum):
    """What becomes of an answer that is to be sanitised and cannot be read."""

    WITHHOLD = "withhold"
    """The caller hears that the outcome is unknown, and queries the order."""
    PASS = "pass"  # noqa: S105 - no password
    """It passes as it is."""


@dataclass(frozen=True, slots=True)
class FieldKey:
    """One key of a ring. `valid_from_s`: Unix seconds since when it makes new values; None: since ever."""

    id: str
    secret: Secret
    """32 bytes."""
    valid_from_s: int | None = None


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys under one name, for keyed hashes and for encryption. Old ones stay, so that old values stay readable."""

    name: str
    keys: tuple[FieldKey, ...]
    by_id: Mapping[str, FieldKey]

    def making(self, now_s: int) -> FieldKey:
        """The key for a new value: the one that became valid last; of several, the first written. LookupError: none."""
        valid = [key for key in self.keys if key.valid_from_s is None or key.valid_from_s <= now_s]
        if not valid:
            raise LookupError(f"no key of {self.name} is valid yet")
        return max(valid, key=lambda key: key.valid_from_s or 0)


@dataclass(frozen=True, slots=True)
class SanitizeRule:
    """Hides one field whole, or what detectors find in texts."""

    action: SanitizeAction
    field: JsonPointer | None = None
    """With `detect`: only texts at or below it; None: every text of the place."""
    place: Place = Place.BODY
    detect: frozenset[Detector] = frozenset()
    """Empty: the field as a whole."""
    kind: MaskKind = MaskKind.ALL
    keep: int | None = None
    """Characters that TRUNCATE keeps; set exactly then."""
    keys: KeyRing | None = None
    """Set exactly when action is HASH or ENCRYPT."""
