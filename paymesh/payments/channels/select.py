"""Owns choosing a channel: which candidates may take this payment, and which of those the route's strategies leave.
Pure functions; what channels are worth is asked of `ChannelHealth`, which never waits.

A selection explains itself in names of channels and reasons of ours: no amounts, and nothing of a card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paymesh.payments.channels.card import Card
from paymesh.payments.channels.health import ChannelHealth
from paymesh.payments.channels.payment import Payment, fee_of
from paymesh.payments.channels.strategies import Asked, apply
from paymesh.payments.fees import Fee
from paymesh.payments.policy.channel_rules import ByCost, ByPriority, BySuccess, ByWeight, CardLimits, Strategy
from paymesh.payments.policy.compiled import Channel

ELIGIBLE = "eligible"
"""No other channel may take the payment."""
PRIORITY = "priority"
FOLLOWED = "followed"
"""The order's first attempt chose."""
_CHOOSING = (ByPriority, ByWeight, ByCost, BySuccess)
"""They always leave somebody: one channel stays."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen channel (None: nobody is left), and why each candidate was or was not."""

    channel: Channel | None
    strategy: str
    """Which decided: a strategy's name, or one of the words above."""
    passed_over: Mapping[str, str]
    """Why, by channel."""
    fee: Fee | None = None
    """Of this payment through that channel; None where the policy has no schedule for it."""
    trial: bool = False
    """It was chosen to learn how it does: an exploring order, or a probe."""
    out: bool = False
    """Nobody is left because all are out: an outage, not a refusal."""

    @property
    def why(self) -> str:
        found = [f"{channel}: {reason}" for channel, reason in self.passed_over.items()]
        if self.channel is not None:
            by = f"{self.strategy}, a trial" if self.trial else self.strategy
            if self.strategy in (ELIGIBLE, PRIORITY):
                by = f"priority {self.channel.priority}"
            found.append(f"{self.channel.name} ({by}) takes it")
        return "; ".join(found)


def select_channel(
    candidates: Sequence[Channel], strategies: Sequence[Strategy], payment: Payment, health: ChannelHealth
) -> Selection:
    """`candidates` come ordered by priority, as the compiled route has them; of those that are left the first is it."""
    passed_over: dict[str, str] = {}
    eligible = []
    down = False
    for channel in candidates:
        obstacle = obstacle_to(channel, payment)
        if obstacle is None and health.is_down(channel.service):
            obstacle, down = "has no healthy host", True
        if obstacle is None:
            eligible.append(channel)
        else:
            passed_over[channel.name] = obstacle
    left, decided, trial, out = eligible, ELIGIBLE, False, down and not eligible
    asked = Asked(eligible, payment, health)
    for strategy in strategies:
        if len(left) <= 1 and isinstance(strategy, _CHOOSING):
            continue
        step = apply(strategy, left, asked)
        if len(step.channels) != len(left):
            decided = step.name
            kept = {channel.name for channel in step.channels}
            passed_over.update((channel.name, step.reason) for channel in left if channel.name not in kept)
        left, trial, out = step.channels, trial or step.trial, out or step.out
    if not left:
        return Selection(None, decided, passed_over, out=out)
    chosen = left[0]
    if len(left) > 1:
        decided = PRIORITY
        passed_over.update((channel.name, "comes after by priority") for channel in left[1:])
    passed_over.pop(chosen.name, None)
    return Selection(chosen, decided, passed_over, fee_of(chosen, payment), trial)


def followed(channel: Channel, payment: Payment) -> Selection:
    """The selection of an order whose first attempt went through `channel`: it stays there, whatever is best now."""
    return Selection(channel, FOLLOWED, {}, fee_of(channel, payment))


def obstacle_to(channel: Channel, payment: Payment) -> str | None:
    """Why `channel` may not take this payment; None if it may."""
    if channel.protocols is not None and payment.protocol not in channel.protocols:
        return "speaks another protocol"
    if channel.adapted and payment.merchant is not None and payment.merchant.in_table:
        return "takes no orders of the merchants' table: their numbers could meet at the provider"
    if payment.operation not in channel.operations:
        return f"does no {payment.operation}"
    if channel.products is not None and payment.product not in channel.products:
        return "does not take this product"
    money = payment.money
    if money.currency not in channel.currencies:
        return "does not take this currency"
    if money.amount < channel.min_amount:
        return "takes no such small amount"
    if channel.max_amount is not None and money.amount > channel.max_amount:
        return "takes no such large amount"
    contract = None if payment.merchant is None else payment.merchant.channels
    if contract is not None and channel.name not in contract:
        return "is not in the merchant's contract"
    if channel.cards is not None and (obstacle := _card_obstacle(channel.cards, payment.card)) is not None:
        return obstacle
    if channel.hours is not None and not channel.hours.open_at(payment.now_s):
        return "is closed at this hour"
    return None


def _card_obstacle(limits: CardLimits, card: Card | None) -> str | None:
    if card is None:
        return "takes cards, and no card is known"
    if limits.types is not None and card.type not in limits.types:
        return "does not take this type of card"
    if limits.bins is not None and not card.begins_with(*limits.bins):
        return "does not take this issuer's cards"
    return None
