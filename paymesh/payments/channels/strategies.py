"""Owns what each strategy leaves of the channels that may take a payment. Pure: chance is the order's own number, so
that a repeat is chosen for alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from paymesh.payments.channels.health import UNKNOWN, ChannelHealth, Place
from paymesh.payments.channels.payment import Payment, schedule_of
from paymesh.payments.fees import cost
from paymesh.payments.policy.channel_rules import (
    ByCost,
    ByDefault,
    ByPriority,
    ByRules,
    BySuccess,
    ByWeight,
    Eliminate,
    Rule,
    Strategy,
    When,
)
from paymesh.payments.policy.compiled import TOTAL_WEIGHT, Channel

Channels = list[Channel]
# Which of the order's numbers decides what: each its own, so that no choice goes with another.
_SHARE, _EXPLORES, _EXPLORED, _PROBES, _PROBED = range(5)


class Left(NamedTuple):
    """`channels`: who is left, in their order. `reason`: why the others are not."""

    name: str
    channels: Channels
    reason: str = ""
    trial: bool = False
    out: bool = False
    """Nobody is left, since all are out."""


class Asked(NamedTuple):
    """What a strategy goes by. `eligible`: all that may take the payment."""

    eligible: Sequence[Channel]
    payment: Payment
    health: ChannelHealth


def apply(strategy: Strategy, channels: Channels, asked: Asked) -> Left:
    return _STRATEGIES[type(strategy)](strategy, channels, asked)


def _by_rules(strategy: ByRules, channels: Channels, asked: Asked) -> Left:
    rule = next((one for one in strategy.rules if is_about(one.when, asked.payment)), None)
    if rule is None:
        return Left("rules", channels)
    named = [channel for channel in channels if channel.name in rule.channels]
    return Left("rules", named if named or rule.only else channels, _rule_reason(rule))


def _rule_reason(rule: Rule) -> str:
    return "a rule names others only" if rule.only else "a rule prefers another"


def is_about(when: When, payment: Payment) -> bool:
    money, merchant = payment.money, payment.merchant
    if when.products is not None and payment.product not in when.products:
        return False
    if when.currencies is not None and money.currency not in when.currencies:
        return False
    if when.min_amount is not None and money.amount < when.min_amount:
        return False
    if when.max_amount is not None and money.amount > when.max_amount:
        return False
    if when.merchants is not None and (merchant is None or merchant.id not in when.merchants):
        return False
    if when.tiers is not None and (merchant is None or merchant.tier not in when.tiers):
        return False
    if when.cards is None:
        return True
    card = payment.card
    if card is None or (when.cards.types is not None and card.type not in when.cards.types):
        return False
    return when.cards.bins is None or card.begins_with(*when.cards.bins)


def _by_priority(_: ByPriority, channels: Channels, __: Asked) -> Left:
    lowest = min((channel.priority for channel in channels), default=0)
    return Left("priority", [one for one in channels if one.priority == lowest], "comes after by priority")


def _by_weight(strategy: ByWeight, channels: Channels, asked: Asked) -> Left:
    weights = [strategy.weights.get(channel.name, 0) for channel in channels]
    total = sum(weights)
    if not total:
        return Left("weighted", channels)
    # Of those left the shares stay in proportion.
    point = asked.payment.draw(_SHARE, total)
    for channel, weight in zip(channels, weights, strict=True):
        if point < weight:
            return Left("weighted", [channel], "the order is in another's share")
        point -= weight
    raise AssertionError("a point beyond the sum of all weights")


def _by_cost(_: ByCost, channels: Channels, asked: Asked) -> Left:
    payment = asked.payment
    amount, card_type, now_s = payment.money.amount, payment.card_type, payment.now_s
    costs = [
        None if schedule is None else cost(schedule, amount, card_type, now_s)
        for schedule in (schedule_of(channel, payment) for channel in channels)
    ]
    lowest = min((known for known in costs if known is not None), default=None)
    cheapest = [one for one, known in zip(channels, costs, strict=True) if known == lowest]
    return Left("lowest_cost", cheapest, "another costs less")


def _by_success(strategy: BySuccess, channels: Channels, asked: Asked) -> Left:
    standings = asked.health.standings(strategy.watch)
    known = [standings.get(channel.name, UNKNOWN) for channel in channels]
    rates = [standing.rate for standing in known]
    bound = max((rate for rate in rates if rate is not None), default=0) - strategy.band
    if strategy.explore and asked.payment.draw(_EXPLORES, TOTAL_WEIGHT) < strategy.explore:
        # Whoever is not of the best, to hear when it is; and whoever the strategies after this one pass over.
        unsure = [
            channel
            for channel, standing in zip(channels, known, strict=True)
            if standing.rate is None or standing.rate < bound or standing.recent.total < strategy.watch.min_samples
        ]
        if unsure:
            tried = unsure[asked.payment.draw(_EXPLORED, len(unsure))]
            return Left("success_rate", [tried], "the order explores another", trial=True)
    # Of whom nothing is known yet, stays: but it drives nobody away.
    best = [one for one, rate in zip(channels, rates, strict=True) if rate is None or rate >= bound]
    return Left("success_rate", best, "fewer of its payments succeed")


def _eliminate(strategy: Eliminate, channels: Channels, asked: Asked) -> Left:
    standings = asked.health.standings(strategy.watch)
    places = [standings.get(channel.name, UNKNOWN).place for channel in channels]
    if not any(places):
        return Left("eliminate", channels)
    probed = [one for one, place in zip(channels, places, strict=True) if place is Place.PROBED]
    if probed and asked.payment.draw(_PROBES, TOTAL_WEIGHT) < strategy.probe_share:
        return Left(
            "eliminate", [probed[asked.payment.draw(_PROBED, len(probed))]], "the order probes another", trial=True
        )
    well = [one for one, place in zip(channels, places, strict=True) if place is Place.IN]
    if well or not strategy.try_when_all_out:
        return Left("eliminate", well, "is out: its payments fail", out=not well)
    return Left("eliminate", channels)


def _by_default(strategy: ByDefault, channels: Channels, asked: Asked) -> Left:
    if channels:
        return Left("default", channels)
    return Left("default", [channel for channel in asked.eligible if channel.name == strategy.channel])


_STRATEGIES: Mapping[type[Any], Callable[[Any, Channels, Asked], Left]] = {
    ByRules: _by_rules,
    ByPriority: _by_priority,
    ByWeight: _by_weight,
    ByCost: _by_cost,
    BySuccess: _by_success,
    Eliminate: _eliminate,
    ByDefault: _by_default,
}
