"""Owns what a channel is chosen for: one payment as far as it decides, and what a channel would charge for it."""

from __future__ import annotations

import functools
import hashlib
import struct
from dataclasses import dataclass, field

from paymesh.payments.channels.card import Card
from paymesh.payments.fees import CardType, Fee, FeeSchedule, fee
from paymesh.payments.money import Money
from paymesh.payments.policy.callers import Merchant
from paymesh.payments.policy.compiled import Channel, Operation, Protocol

_NUMBERS = struct.Struct(">8I")


@dataclass(frozen=True)
class Payment:
    """`now_s`: Unix seconds. Without slots, so that its chance is reckoned once."""

    operation: Operation
    product: str | None
    money: Money
    merchant: Merchant | None
    order_no: str = field(repr=False)
    now_s: int
    card: Card | None = None
    protocol: Protocol = Protocol.PAYMESH
    """What its message is written in."""

    @property
    def card_type(self) -> CardType | None:
        return None if self.card is None else self.card.type

    def draw(self, number: int, total: int) -> int:
        """From 0 to `total`, that not included: evenly over orders, and always the same for one order.

        `number`: 0 to 7, each independent of the others.
        """
        return self._chance[number] * total >> 32

    @functools.cached_property
    def _chance(self) -> tuple[int, ...]:
        owner = "" if self.merchant is None else self.merchant.id
        text = f"{len(owner)}:{owner}{self.order_no}".encode("utf-8", "surrogatepass")
        return _NUMBERS.unpack(hashlib.blake2b(text, digest_size=_NUMBERS.size).digest())


def schedule_of(channel: Channel, payment: Payment) -> FeeSchedule | None:
    """The merchant's own for the channel goes before the channel's. None: there is none in this currency."""
    currency = payment.money.currency
    if payment.merchant is not None and channel.name in payment.merchant.fees:
        own = payment.merchant.fees[channel.name].get(currency)
        if own is not None:
            return own
    return channel.fees.get(currency)


def fee_of(channel: Channel, payment: Payment) -> Fee | None:
    """What the channel would charge; None where no schedule says so."""
    schedule = schedule_of(channel, payment)
    if schedule is None:
        return None
    return fee(schedule, payment.money.amount, payment.card_type, payment.now_s)
