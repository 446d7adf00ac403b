"""Owns what a channel charges for a payment, and what comes back of it with a refund. Pure, exact, whole minor units.

Refuses binary floats: 7.50 yuan at 0.6% are 5 fen, and 4 by floats (protocols.md section 6). Which schedule holds is
the policy's; the one in force is kept with the payment, so that a later change never rewrites what was charged.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal


class CardType(enum.StrEnum):
    DEBIT = "debit"
    CREDIT = "credit"


class RefundRule(enum.StrEnum):
    """What becomes of a payment's fee when it is refunded."""

    PROPORTIONAL = "proportional"
    """As much of the fee comes back as of the payment."""
    KEPT = "kept"
    """Nothing comes back."""
    FULL = "full"
    """The whole fee comes back with the first refund, however small."""


@dataclass(frozen=True, slots=True)
class Terms:
    """`rate` of the amount and a `fixed` part, never less than `minimum` nor more than `cap`. Minor units.

    Raises ValueError for what cannot be charged.
    """

    rate: Decimal
    """A fraction: 0.006 is 0.6%."""
    fixed: int = 0
    minimum: int = 0
    cap: int | None = None
    _ratio: tuple[int, int] = field(init=False, repr=False, compare=False)
    """The rate as a fraction of whole numbers: it is exact as a decimal, and quicker to reckon with."""

    def __post_init__(self) -> None:
        if not isinstance(self.rate, Decimal) or not 0 <= self.rate <= 1:
            raise ValueError("a rate is a decimal fraction between 0 and 1")
        if min(self.fixed, self.minimum) < 0:
            raise ValueError("a fixed part and a minimum are not negative")
        if self.cap is not None and self.cap < self.minimum:
            raise ValueError("the cap is below the minimum")
        object.__setattr__(self, "_ratio", self.rate.as_integer_ratio())

    def charge(self, amount: int) -> int:
        """For a payment of `amount`: rounded half up, then bounded."""
        numerator, denominator = self._ratio
        charged = _half_up(amount * numerator, denominator) + self.fixed
        if charged < self.minimum:
            return self.minimum
        return charged if self.cap is None or charged <= self.cap else self.cap


@dataclass(frozen=True, slots=True)
class Part:
    """Terms by a name, which tells afterwards why so much was charged."""

    name: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class Tier:
    """Terms of the whole amount, from so much on."""

    from_amount: int
    part: Part


@dataclass(frozen=True, slots=True)
class Promotion:
    """Terms of a period: Unix seconds, `until_s` no more in it. `cards` None: of every payment."""

    from_s: int
    until_s: int
    part: Part
    cards: frozenset[CardType] | None = None


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """What a channel charges in one currency. The first that fits: a promotion, the card's type, the highest tier that
    the amount reaches, the standard."""

    id: str
    standard: Part
    tiers: tuple[Tier, ...] = ()
    """By rising amounts."""
    cards: Mapping[CardType, Part] = field(default_factory=dict)
    promotions: tuple[Promotion, ...] = ()
    refund: RefundRule = RefundRule.PROPORTIONAL


@dataclass(frozen=True, slots=True)
class Fee:
    """`amount` in minor units of the payment's currency; `part`: which part of the schedule it is by."""

    amount: int
    schedule: str
    part: str


def fee(schedule: FeeSchedule, amount: int, card_type: CardType | None, at_s: int) -> Fee:
    """Of a payment of `amount` minor units at a moment (Unix seconds). `card_type` None: no card, or not known."""
    part = part_in_force(schedule, amount, card_type, at_s)
    return Fee(part.terms.charge(amount), schedule.id, part.name)


def cost(schedule: FeeSchedule, amount: int, card_type: CardType | None, at_s: int) -> int:
    """The fee's amount alone, where many are compared."""
    return part_in_force(schedule, amount, card_type, at_s).terms.charge(amount)


def part_in_force(schedule: FeeSchedule, amount: int, card_type: CardType | None, at_s: int) -> Part:
    for promotion in schedule.promotions:
        if promotion.from_s <= at_s < promotion.until_s and (promotion.cards is None or card_type in promotion.cards):
            return promotion.part
    if card_type is not None and card_type in schedule.cards:
        return schedule.cards[card_type]
    for tier in reversed(schedule.tiers):
        if amount >= tier.from_amount:
            return tier.part
    return schedule.standard


def fee_returned(rule: RefundRule, charged: int, paid: int, refunded_before: int, refund: int) -> int:
    """What comes back of a fee of `charged` with one more refund, all in minor units of one currency.

    What comes back with all refunds together follows from what they refund together, so that no way of splitting
    them returns more than was charged. Raises ValueError for a refund of more than was paid.
    """
    if refund <= 0 or refunded_before < 0 or refunded_before + refund > paid:
        raise ValueError("a refund is positive, and all together are no more than what was paid")
    if rule is RefundRule.KEPT:
        return 0
    if rule is RefundRule.FULL:
        return charged if refunded_before == 0 else 0
    return _half_up(charged * (refunded_before + refund), paid) - _half_up(charged * refunded_before, paid)


def _half_up(numerator: int, denominator: int) -> int:
    """The whole number nearest to a quotient that is not negative; of two as near the greater."""
    return (2 * numerator + denominator) // (2 * denominator)
