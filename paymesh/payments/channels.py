"""Owns choosing a channel: which candidates take this payment, and of those the first by priority. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paymesh.payments.money import Money
from paymesh.payments.policy.compiled import Channel, Operation


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen channel (None: none is eligible) and, for `paymesh explain`, why each candidate was or was not."""

    channel: Channel | None
    why: str


def select_channel(candidates: Sequence[Channel], operation: Operation, product: str | None, money: Money) -> Selection:
    """The first eligible candidate. `candidates` come ordered by priority, as the compiled route has them."""
    passed_over: list[str] = []
    for channel in candidates:
        obstacle = obstacle_to(channel, operation, product, money)
        if obstacle is None:
            why = f"{channel.name} (priority {channel.priority}) takes it"
            return Selection(channel, "; ".join([*passed_over, why]))
        passed_over.append(f"{channel.name}: {obstacle}")
    return Selection(None, "; ".join(passed_over))


def obstacle_to(channel: Channel, operation: Operation, product: str | None, money: Money) -> str | None:
    """Why `channel` does not take this payment; None if it does."""
    if operation not in channel.operations:
        return f"does no {operation}"
    if channel.products is not None and product not in channel.products:
        return "does not take this product"
    if money.currency not in channel.currencies:
        return "does not take this currency"
    if money.amount < channel.min_amount:
        return f"takes no less than {channel.min_amount} minor units"
    if channel.max_amount is not None and money.amount > channel.max_amount:
        return f"takes no more than {channel.max_amount} minor units"
    return None
