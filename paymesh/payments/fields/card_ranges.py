"""Owns which numbers the card schemes give out: the first six digits (BIN) and the lengths. Refuses issuers and brands.

ISO/IEC 7812 leaves the lengths to the schemes; the ranges are those that they publish for merchants. Where two schemes
share a range (Discover and UnionPay in 622126-622925, Discover and RuPay in 65) the one that issues more is written.
Maestro has only its own prefixes here: all of 50 and 56-69 would make a card of every tenth number.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

UNIONPAY = "unionpay"
MIN_DIGITS = 12
MAX_DIGITS = 19


@dataclass(frozen=True, slots=True)
class CardRange:
    """BINs `low` to `high`, both included. `lengths` are ordered, the longest first."""

    low: int
    high: int
    scheme: str
    lengths: tuple[int, ...]


_MASTERCARD = ("mastercard", (16,))
_DINERS_36 = ("diners", (19, 18, 17, 16, 15, 14))
_DINERS = ("diners", (19, 18, 17, 16, 14))
_DISCOVER = ("discover", (19, 18, 17, 16))
_MAESTRO = ("maestro", (19, 18, 17, 16, 15, 14, 13, 12))
_RUPAY = ("rupay", (16,))
_UNIONPAY = (UNIONPAY, (19, 18, 17, 16, 15, 14))
# In ascending order, without overlaps.
_RANGES = tuple(
    CardRange(low, high, scheme, lengths)
    for low, high, (scheme, lengths) in (
        (220000, 220499, ("mir", (19, 18, 17, 16))),
        (222100, 272099, _MASTERCARD),
        (300000, 305999, _DINERS),
        (309500, 309599, _DINERS),
        (340000, 349999, ("amex", (15,))),
        (352800, 358999, ("jcb", (19, 18, 17, 16))),
        (360000, 369999, _DINERS_36),
        (370000, 379999, ("amex", (15,))),
        (380000, 399999, _DINERS),
        (400000, 499999, ("visa", (19, 18, 16, 13))),
        (501800, 501899, _MAESTRO),
        (502000, 502099, _MAESTRO),
        (503800, 503899, _MAESTRO),
        (508000, 508999, _RUPAY),
        (510000, 559999, _MASTERCARD),
        (589300, 589399, _MAESTRO),
        (600000, 601099, _RUPAY),
        (601100, 601199, _DISCOVER),
        (601200, 609999, _RUPAY),
        (620000, 629999, _UNIONPAY),
        (630400, 630499, _MAESTRO),
        (639000, 639099, _MAESTRO),
        (644000, 659999, _DISCOVER),
        (675900, 675999, _MAESTRO),
        (676100, 676399, _MAESTRO),
        (676770, 676770, _MAESTRO),
        (676774, 676774, _MAESTRO),
        (810000, 817999, _UNIONPAY),
        (818000, 829999, _RUPAY),
    )
)
_LOWS = tuple(card_range.low for card_range in _RANGES)
# A digit in every second place from the right counts twice, and its tens and units are added: ISO/IEC 7812-1 annex B.
_TWICE = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_ONCE = bytes.maketrans(b"0123456789", bytes(range(10)))


def range_of(digits: str) -> CardRange | None:
    """The range that a number of at least six ASCII digits belongs to by its BIN."""
    bin6 = int(digits[:6])
    index = bisect_right(_LOWS, bin6) - 1
    if index < 0 or bin6 > _RANGES[index].high:
        return None
    return _RANGES[index]


def luhn_valid(digits: str) -> bool:
    """Whether the last of the ASCII digits is the check digit of those before it."""
    octets = digits.encode()
    return (sum(octets[-1::-2].translate(_ONCE)) + sum(octets[-2::-2].translate(_TWICE))) % 10 == 0
