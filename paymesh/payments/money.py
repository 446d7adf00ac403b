"""Owns the one type of an amount: integer minor units and a currency. Refuses floats, negatives and unknown shapes."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_MINOR_UNITS = 10**13
"""A hundred billion yuan in fen: larger is a mistake, and sums of a thousand of them still fit 64 bits."""

_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Money:
    """`amount` in minor units (fen, cent); `currency` an ISO 4217 code. Raises ValueError."""

    amount: int
    currency: str

    def __post_init__(self) -> None:
        if isinstance(self.amount, bool) or not isinstance(self.amount, int):
            raise ValueError("an amount is a whole number of minor units")  # noqa: TRY004 - one error kind for callers
        if not 0 < self.amount <= MAX_MINOR_UNITS:
            raise ValueError(f"an amount is between 1 and {MAX_MINOR_UNITS} minor units")
        if not isinstance(self.currency, str) or not _CURRENCY.fullmatch(self.currency):
            raise ValueError("a currency is an ISO 4217 code of three capital letters")
