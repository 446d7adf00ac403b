"""Owns what is known of a payment's card while a channel is chosen: its type, and the beginning of its number.

Refuses to keep or print more: of a number the BIN remains (PCI DSS 4.0.1 requirement 3.4.1), and repr masks that too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from paymesh.payments.fees import CardType
from paymesh.payments.fields.pan import Pan

_LONG = 16
"""Of so many digits eight are the BIN (ISO/IEC 7812-1:2017), of fewer six: more would leave too little hidden."""
_TYPES = {"debit": CardType.DEBIT, "credit": CardType.CREDIT, "01": CardType.DEBIT, "02": CardType.CREDIT}
"""As merchants write them, and as UnionPay does."""


@dataclass(frozen=True, slots=True)
class Card:
    type: CardType | None = None
    """None: not said, or another one, such as prepaid."""
    _bin: str = field(default="", repr=False)

    def begins_with(self, *prefixes: str) -> bool:
        """Whether its number is known, and begins with one of them."""
        return self._bin.startswith(prefixes)


def card_of(pan: Pan | None, type_text: str | None) -> Card:
    number = "" if pan is None else pan.reveal()
    kept = number[:8] if len(number) >= _LONG else number[:6]
    return Card(None if type_text is None else _TYPES.get(type_text.lower()), kept)
