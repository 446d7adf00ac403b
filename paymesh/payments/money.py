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


def money_text(money: Money) -> str:
    """As paymesh's parts tell each other: minor units, a space, currency."""
    return f"{money.amount} {money.currency}"


def read_money(text: str) -> Money:
    """Raises ValueError for what `money_text` did not write."""
    amount, _, currency = text.partition(" ")
    return Money(int(amount), currency)


_DECIMAL_TEXT = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,2}))?", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,14}", re.ASCII)
_CENTS_IN = frozenset({"CNY", "HKD", "USD", "EUR", "GBP", "AUD", "CAD", "SGD", "CHF", "NZD", "THB", "MOP", "TWD"})
"""Currencies of two decimals that Alipay settles in (ISO 4217 minor unit 2); another one is refused, never guessed."""
_WHOLE = frozenset({"JPY", "KRW"})
"""Currencies without minor units (ISO 4217 minor unit 0)."""
_NUMERIC_CODES = {"156": "CNY", "344": "HKD", "840": "USD", "978": "EUR", "826": "GBP", "392": "JPY", "446": "MOP"}


def minor_units_of_decimal(text: str, currency: str) -> int:
    """`88.88` yuan as 8888 fen: exact, at most two decimals. Raises ValueError."""
    match = _DECIMAL_TEXT.fullmatch(text)
    if match is None:
        raise ValueError("an amount is a decimal text with at most two decimals")
    if currency not in _CENTS_IN:
        raise ValueError("this currency's decimals are not known here")
    return int(match.group(1)) * 100 + int((match.group(2) or "").ljust(2, "0"))


def decimal_of_minor_units(amount: int, currency: str) -> str:
    """8888 fen as `88.88`: exact, with as many decimals as the currency has. Raises ValueError."""
    if amount < 0:
        raise ValueError("an amount is never negative")
    if currency in _WHOLE:
        return str(amount)
    if currency not in _CENTS_IN:
        raise ValueError("this currency's decimals are not known here")
    return f"{amount // 100}.{amount % 100:02}"


def minor_units_of_digits(text: str) -> int:
    """Minor units written as digits. Raises ValueError."""
    if not _DIGITS.fullmatch(text):
        raise ValueError("an amount is digits of minor units")
    return int(text)


def alphabetic_code(code: str) -> str:
    """The alphabetic ISO 4217 code of a numeric one, as UnionPay writes it; an alphabetic one stays as it is."""
    return _NUMERIC_CODES.get(code, code)
