"""Owns the compiled rules about fields: what they must be, and how they are hidden. Refuses I/O."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

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
    by_id: Mapping[str, FieldKey] = field(compare=False, repr=False)

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
    spares: frozenset[JsonPointer] = frozenset()
    """Fields that detectors leave alone: the payment was decided by them."""


class JsonType(enum.StrEnum):
    """What a value is in JSON. A form's values are all strings."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    OBJECT = "object"
    ARRAY = "array"


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What one field must be. `*` in the pointer stands for every element of an array."""

    field: JsonPointer
    place: Place = Place.BODY
    required: bool = False
    type: JsonType | None = None
    kind: Kind | None = None
    pattern: re.Pattern[str] | None = None
    """Of the whole value."""
    min_length: int | None = None
    """Characters of a text, elements of an array."""
    max_length: int | None = None
    one_of: frozenset[str] | None = None
    """As text: a number in JSON is compared as it is written."""
    minimum: Decimal | None = None
    """Of a number, or of a text that is one. Exact: never a binary float."""
    maximum: Decimal | None = None
    ahead_min_s: int | None = None
    """Of a timestamp: how far in the future it is at least, seconds."""
    ahead_max_s: int | None = None


@dataclass(frozen=True, slots=True)
class SumRule:
    """The sum over the items, each times its count, equals another field. All in one notation of amounts."""

    items: JsonPointer
    """With one `*`: `/items/*/price`."""
    times: JsonPointer | None
    """With the same `*`: `/items/*/quantity`; None: each counts once."""
    equals: JsonPointer


class Relation(enum.StrEnum):
    LESS = "less"
    AT_MOST = "at_most"
    EQUAL = "equal"
    DIFFERENT = "different"
    AT_LEAST = "at_least"
    MORE = "more"


@dataclass(frozen=True, slots=True)
class CompareRule:
    """Two fields stand in a relation: numbers (or texts that are numbers) by size, others only equal or different."""

    field: JsonPointer
    relation: Relation
    other: JsonPointer


@dataclass(frozen=True, slots=True)
class Validation:
    """Everything a route asks of fields beside the facts that decide. A rule about a field that is absent holds, unless
    the field is required."""

    fields: tuple[FieldRule, ...] = ()
    sums: tuple[SumRule, ...] = ()
    comparisons: tuple[CompareRule, ...] = ()

    @property
    def reads_body(self) -> bool:
        return bool(self.sums or self.comparisons) or any(rule.place is Place.BODY for rule in self.fields)


NO_VALIDATION = Validation()
