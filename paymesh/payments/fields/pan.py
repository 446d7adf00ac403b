"""Owns card numbers as values. Refuses to print one: repr and str are masked.

`reveal()` is the only way to the digits, so every use can be found by searching for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from paymesh.payments.fields.card_ranges import MAX_DIGITS, MIN_DIGITS, UNIONPAY, luhn_valid, range_of
from paymesh.payments.fields.text_forms import compact

_DIGITS = re.compile(rf"[0-9]{{{MIN_DIGITS},{MAX_DIGITS}}}", re.ASCII)
_MAX_TEXT = 96
_SHORT = 15
"""Of fewer digits the BIN and the last four would leave hardly anything hidden."""


@dataclass(frozen=True, slots=True)
class Pan:
    """A primary account number of 12 to 19 ASCII digits (ISO/IEC 7812). Compares by value; made by `parse`."""

    _digits: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Pan | None:
        """The number in any script's digits, with spaces and dashes between them or not; None: it is none.

        Says nothing about whether a scheme gives such a number out: that is `is_card`.
        """
        if len(text) > _MAX_TEXT or "." in text:
            return None
        digits = compact(text)
        return cls(digits) if _DIGITS.fullmatch(digits) else None

    def reveal(self) -> str:
        """The digits themselves: never for a log or an error."""
        return self._digits

    @property
    def bin6(self) -> str:
        """The first six digits: which scheme and issuer."""
        return self._digits[:6]

    @property
    def last4(self) -> str:
        return self._digits[-4:]

    @property
    def scheme(self) -> str | None:
        """`unionpay`, `visa`, ... by the BIN alone; None: no scheme is known for it."""
        card_range = range_of(self._digits)
        return None if card_range is None else card_range.scheme

    @property
    def luhn_valid(self) -> bool:
        """Whether the check digit is right (ISO/IEC 7812-1 annex B)."""
        return luhn_valid(self._digits)

    @property
    def is_card(self) -> bool:
        """Whether a scheme has this BIN in this length, and the check digit is right; UnionPay's need not be."""
        card_range = range_of(self._digits)
        if card_range is None or len(self._digits) not in card_range.lengths:
            return False
        return card_range.scheme == UNIONPAY or self.luhn_valid

    def __repr__(self) -> str:
        return f"Pan({self})"

    def __str__(self) -> str:
        # PCI DSS 4.0.1 requirement 3.4.1: at most the BIN and the last four.
        shown = self.bin6 if len(self._digits) >= _SHORT else ""
        return f"{shown}{'*' * (len(self._digits) - len(shown) - 4)}{self.last4}"
