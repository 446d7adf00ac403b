"""Owns turning written channels, fees and ways of choosing into compiled ones, and refusing what would never choose, or
choose by what is never known."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from paymesh.payments.fees import CardType, FeeSchedule, Part, Promotion, Terms, Tier
from paymesh.payments.policy import channel_documents as cd
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy.channel_rules import (
    WEEK_S,
    ByCost,
    ByDefault,
    ByPriority,
    ByRules,
    BySuccess,
    ByWeight,
    CardLimits,
    Eliminate,
    Elimination,
    OpeningHours,
    Rule,
    Strategy,
    Watch,
    When,
)
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.policy.route_checks import Problem

_DAY_S = 86_400
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NARROWING = frozenset({"priority", "weighted", "lowest_cost", "success_rate"})
Fees = Mapping[str, FeeSchedule]
"""By currency."""


# -- channels ------------------------------------------------------------------------------------------------------


def compile_channel(document: d.ChannelDocument, path: DocumentPath, findings: Findings) -> c.Channel:
    if document.amount.max is not None and document.amount.max < document.amount.min:
        findings.problem((*path, "amount"), "max is smaller than min: no payment would fit")
    return c.Channel(
        name=document.name,
        service=document.service,
        operations=frozenset(document.operations),
        products=_names(document.products),
        currencies=frozenset(document.currencies),
        min_amount=document.amount.min,
        max_amount=document.amount.max,
        priority=document.priority,
        fees=compile_fees(document.fees, (*path, "fees"), findings),
        cards=_cards(document.cards),
        hours=_hours(document.hours),
        protocols=_protocols(document, path, findings),
        adapted=document.adapter is not None,
    )


def _protocols(document: d.ChannelDocument, path: DocumentPath, findings: Findings) -> frozenset[c.Protocol] | None:
    if document.adapter is None:
        return None if document.protocols is None else frozenset(document.protocols)
    if document.protocols is not None and set(document.protocols) != {c.Protocol.PAYMESH}:
        findings.problem((*path, "protocols"), "an adapter writes generic orders (paymesh) only")
    return frozenset({c.Protocol.PAYMESH})


def check_schedule_ids(documents: Sequence[d.ChannelDocument], findings: Findings) -> None:
    """An event tells the schedule by its id alone."""
    seen: dict[str, str] = {}
    for index, document in enumerate(documents):
        for number, schedule in enumerate(document.fees):
            if schedule.id in seen:
                path = ("channels", index, "fees", number, "id")
                findings.problem(path, f"channel {seen[schedule.id]} has a schedule {schedule.id} already")
            seen[schedule.id] = document.name


def _cards(document: cd.CardsDocument | None) -> CardLimits | None:
    if document is None:
        return None
    return CardLimits(None if document.types is None else frozenset(document.types), document.bins)


def _hours(document: cd.HoursDocument | None) -> OpeningHours | None:
    if document is None:
        return None
    spans = [span for one in document.open for day in one.days for span in _spans(_DAYS.index(day), one)]
    return OpeningHours(_seconds_east(document.utc_offset), tuple(sorted(set(spans))))


def _spans(day: int, document: cd.OpenDocument) -> Iterator[tuple[int, int]]:
    opens, closes = _seconds_of_day(document.opens), _seconds_of_day(document.closes)
    begin = day * _DAY_S + opens
    end = day * _DAY_S + closes + (_DAY_S if closes <= opens else 0)
    yield begin, min(end, WEEK_S)
    if end > WEEK_S:
        yield 0, end - WEEK_S


def _seconds_of_day(text: str) -> int:
    return int(text[:2]) * 3600 + int(text[3:]) * 60


def _seconds_east(offset: str) -> int:
    seconds = int(offset[1:3]) * 3600 + int(offset[4:]) * 60
    return seconds if offset[0] == "+" else -seconds


# -- fees ----------------------------------------------------------------------------------------------------------


def compile_fees(
    documents: Sequence[cd.FeeScheduleDocument], path: DocumentPath, findings: Findings
) -> dict[str, FeeSchedule]:
    """By currency."""
    found: dict[str, FeeSchedule] = {}
    for number, document in enumerate(documents):
        if document.currency in found:
            findings.problem((*path, number, "currency"), f"{document.currency} has a schedule already")
        found[document.currency] = _schedule(document, (*path, number), findings)
    return found


def _schedule(document: cd.FeeScheduleDocument, path: DocumentPath, findings: Findings) -> FeeSchedule:
    amounts = [tier.from_amount for tier in document.tiers]
    if amounts != sorted(set(amounts)):
        findings.problem((*path, "tiers"), "the amounts of tiers rise")
    cards = {CardType.DEBIT: document.cards.debit, CardType.CREDIT: document.cards.credit}
    return FeeSchedule(
        id=document.id,
        standard=Part("standard", _terms(document)),
        tiers=tuple(
            Tier(tier.from_amount, Part(f"from {tier.from_amount}", _terms(tier)))
            for tier in sorted(document.tiers, key=lambda tier: tier.from_amount)
        ),
        cards={type_: Part(str(type_), _terms(terms)) for type_, terms in cards.items() if terms is not None},
        promotions=tuple(
            _promotion(promotion, document.utc_offset, (*path, "promotions", number), findings)
            for number, promotion in enumerate(document.promotions)
        ),
        refund=document.refund,
    )


def _terms(document: cd.FeeTermsDocument) -> Terms:
    rate = Decimal(document.rate.removesuffix("%")).scaleb(-2)
    return Terms(rate, document.fixed, document.minimum, document.cap)


def _promotion(document: cd.FeePromotionDocument, utc_offset: str, path: DocumentPath, findings: Findings) -> Promotion:
    from_s = _moment(document.valid_from, utc_offset, (*path, "valid_from"), findings)
    last_s = _moment(document.valid_until, utc_offset, (*path, "valid_until"), findings)
    until_s = last_s + (_DAY_S if _is_day(document.valid_until) else 1)
    if until_s <= from_s:
        findings.problem((*path, "valid_until"), "is before valid_from: it never holds")
    return Promotion(
        from_s,
        until_s,
        Part(f"promotion {document.name}", _terms(document)),
        None if document.cards is None else frozenset(document.cards),
    )


def _is_day(text: str) -> bool:
    return len(text) == len("2026-11-01")


def _moment(text: str, utc_offset: str, path: DocumentPath, findings: Findings) -> int:
    try:
        if _is_day(text):
            text = f"{text}T00:00:00{utc_offset}"
        return int(datetime.datetime.fromisoformat(text.upper()).timestamp())
    except ValueError:
        findings.problem(path, "is no date of the calendar, or no time of day")
        return 0


# -- choosing ------------------------------------------------------------------------------------------------------


def compile_selection(
    document: d.RouteDocument, path: DocumentPath, channels: Sequence[c.Channel], *, observed: bool, findings: Findings
) -> tuple[Strategy, ...]:
    """`observed`: whether the route's answers tell what became of a payment."""
    for place, message in _selection_problems(document, channels, observed=observed):
        findings.problem((*path, *place), message)
    return tuple(_compile(strategy) for strategy in document.channel_selection)


def watches_of(routes: Iterable[c.Route]) -> dict[str, tuple[Watch, ...]]:
    """By channel: how its outcomes are counted, whatever route they came by."""
    found: dict[str, dict[Watch, None]] = {}
    for route in routes:
        for strategy in route.channel_selection:
            if isinstance(strategy, BySuccess | Eliminate):
                for channel in route.channels:
                    found.setdefault(channel.name, {})[strategy.watch] = None
    return {channel: tuple(watches) for channel, watches in found.items()}


def _selection_problems(
    document: d.RouteDocument, channels: Sequence[c.Channel], *, observed: bool
) -> Iterator[Problem]:
    yield from _card_problems(document, channels)
    strategies = document.channel_selection
    if strategies and document.operation is not c.Operation.PAY:
        yield ("channel_selection",), "only a pay route selects a channel"
        return
    seen: set[str] = set()
    for number, strategy in enumerate(strategies):
        where: DocumentPath = ("channel_selection", number)
        if strategy.strategy in seen:
            yield where, f"{strategy.strategy} stands there already"
        if "default" in seen:
            yield where, "default is the last: whoever comes after it never decides"
        elif "weighted" in seen and strategy.strategy != "default":
            why = "stands after weighted, which leaves one channel: nothing is left to decide"
            yield where, f"{strategy.strategy} {why}"
        elif strategy.strategy in ("rules", "eliminate") and seen & _NARROWING:
            yield where, f"{strategy.strategy} stands before {', '.join(sorted(seen & _NARROWING))}, which choose"
        seen.add(strategy.strategy)
        for place, message in _strategy_problems(strategy, document, channels, observed=observed):
            yield (*where, *place), message


def _card_problems(document: d.RouteDocument, channels: Sequence[c.Channel]) -> Iterator[Problem]:
    fields = document.fields
    if document.operation is not c.Operation.PAY:
        if fields.card_no is not None or fields.card_type is not None:
            yield ("fields",), "card_no and card_type are for choosing a channel: of pay routes"
        return
    for number, channel in enumerate(channels):
        if channel.cards is not None:
            for message in _unknown_card(channel.cards.types, channel.cards.bins, document):
                yield ("channels", number), f"{channel.name} goes by the card, and {message}"


def _unknown_card(types: object, bins: object, document: d.RouteDocument) -> Iterator[str]:
    if types is not None and document.fields.card_type is None:
        yield "the route has no fields.card_type"
    if bins is not None and document.fields.card_no is None:
        yield "the route has no fields.card_no"


def _strategy_problems(
    strategy: cd.StrategyDocument, document: d.RouteDocument, channels: Sequence[c.Channel], *, observed: bool
) -> Iterator[Problem]:
    names = [channel.name for channel in channels]
    if isinstance(strategy, cd.RulesStrategyDocument):
        for number, rule in enumerate(strategy.rules):
            for key, named in (("prefer", rule.prefer), ("only", rule.only)):
                yield from _strangers(("rules", number, key), named or (), names)
            if rule.when.cards is not None:
                for message in _unknown_card(rule.when.cards.types, rule.when.cards.bins, document):
                    yield ("rules", number, "when", "cards"), message
    elif isinstance(strategy, cd.WeightedStrategyDocument):
        for name in strategy.weights:
            yield from _strangers(("weights",), (name,), names)
        total = sum(strategy.weights.values())
        if total != c.TOTAL_WEIGHT:
            yield ("weights",), f"the weights add up to {total / 100:g} percent, not to 100"
    elif isinstance(strategy, cd.LowestCostStrategyDocument):
        for channel in channels:
            for currency in sorted(channel.currencies - channel.fees.keys()):
                yield (), f"channel {channel.name} has no fees in {currency}: its cost would not be known"
    elif isinstance(strategy, cd.DefaultStrategyDocument):
        yield from _strangers(("channel",), (strategy.channel,), names)
    elif not isinstance(strategy, cd.PriorityStrategyDocument) and not observed:
        yield (), f"{strategy.strategy} goes by payment outcomes, and this route's answers are not observed"


def _strangers(place: DocumentPath, named: Iterable[str], names: Sequence[str]) -> Iterator[Problem]:
    for name in named:
        if name not in names:
            yield place, f"{name} is no channel of this route (it has: {', '.join(names) or 'none'})"


def _compile(document: cd.StrategyDocument) -> Strategy:
    return _COMPILERS[document.strategy](document)


def _rules(document: cd.RulesStrategyDocument) -> Strategy:
    return ByRules(
        tuple(
            Rule(_when(rule.when), frozenset(rule.only or rule.prefer or ()), rule.only is not None)
            for rule in document.rules
        )
    )


def _when(document: cd.WhenDocument) -> When:
    return When(
        products=_names(document.products),
        currencies=_names(document.currencies),
        merchants=_names(document.merchants),
        tiers=_names(document.tiers),
        min_amount=document.min_amount,
        max_amount=document.max_amount,
        cards=_cards(document.cards),
    )


def _success(document: cd.SuccessRateStrategyDocument) -> Strategy:
    return BySuccess(Watch(document.window, document.min_samples), document.band, document.explore)


def _eliminate(document: cd.EliminateStrategyDocument) -> Strategy:
    rules = Elimination(document.failures, document.failure_rate, document.pause, document.probe_successes)
    watch = Watch(document.window, document.min_samples, rules)
    return Eliminate(watch, document.probe_share, document.when_all_out == "try")


_COMPILERS: Mapping[str, Callable[..., Strategy]] = {
    "rules": _rules,
    "priority": lambda _: ByPriority(),
    "weighted": lambda document: ByWeight(dict(document.weights)),
    "lowest_cost": lambda _: ByCost(),
    "success_rate": _success,
    "eliminate": _eliminate,
    "default": lambda document: ByDefault(document.channel),
}


def _names(given: Iterable[str] | None) -> frozenset[str] | None:
    return None if given is None else frozenset(given)
