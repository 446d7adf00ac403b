"""Which channels may take a payment, what each strategy leaves of them, and how a selection explains itself."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.channels.card import Card, card_of
from paymesh.payments.channels.health import Counts, NothingKnown, Place, Standing, standing_of
from paymesh.payments.channels.payment import Payment, fee_of
from paymesh.payments.channels.select import Selection, followed, obstacle_to, select_channel
from paymesh.payments.fees import CardType, Fee, FeeSchedule, Part, Terms, Tier
from paymesh.payments.fields.pan import Pan
from paymesh.payments.money import MAX_MINOR_UNITS, Money
from paymesh.payments.policy.callers import Merchant
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
from paymesh.payments.policy.compiled import Channel, Operation, Protocol

PAY = frozenset({Operation.PAY})
CARD = Channel("card", "card", PAY, frozenset({"card"}), frozenset({"CNY"}), 100, 2000, 30)
ANY = Channel("any", "trade", PAY, None, frozenset({"CNY", "USD"}), 1, None, 90)
WATCH = Watch(60, 20)
OUT_WATCH = Watch(60, 20, Elimination(5, None, 10, 5))
NOW_S = int(datetime.datetime(2026, 11, 23, 9, 30, tzinfo=datetime.UTC).timestamp())
"""A Monday, 17:30 in China."""


def channel(name: str, priority: int = 100, rate: str | None = None, **more: Any) -> Channel:
    fees = {} if rate is None else {"CNY": FeeSchedule(f"{name}-fees", Part("standard", Terms(Decimal(rate))))}
    return Channel(name, name, PAY, None, frozenset({"CNY"}), 1, None, priority, fees, **more)


A, B, C = channel("a", 10, "0.006"), channel("b", 20, "0.0038"), channel("c", 30, "0.01")


def payment(amount: int = 500, currency: str = "CNY", **more: Any) -> Payment:
    given = {"operation": Operation.PAY, "product": "card", "merchant": Merchant("shop", {}), "order_no": "ORD-1"}
    return Payment(**{**given, "money": Money(amount, currency), "now_s": NOW_S, **more})


@dataclass
class Known:
    """A ChannelHealth that says what it is told."""

    known: Mapping[str, Standing] = field(default_factory=dict)
    down: frozenset[str] = frozenset()

    def standings(self, watch: Watch) -> Mapping[str, Standing]:
        return self.known

    def is_down(self, service: str) -> bool:
        return service in self.down


def rated(**rates: tuple[int, int]) -> Known:
    """By channel: worked, failed."""
    return Known({name: standing_of(Counts(*said), Counts(*said), Place.IN, WATCH) for name, said in rates.items()})


def placed(**places: Place) -> Known:
    return Known({name: Standing(Counts(0, 0), Counts(0, 0), place, None) for name, place in places.items()})


def chosen(strategies: Sequence[Strategy], health: Known | NothingKnown | None = None, **more: Any) -> Selection:
    return select_channel([A, B, C], strategies, payment(**more), health or NothingKnown())


def name_of(selection: Selection) -> str | None:
    return None if selection.channel is None else selection.channel.name


@pytest.mark.parametrize(
    ("product", "money", "takes"),
    [
        ("card", Money(100, "CNY"), "card"),
        ("card", Money(2000, "CNY"), "card"),
        ("card", Money(99, "CNY"), "any"),
        ("card", Money(2001, "CNY"), "any"),
        ("card", Money(500, "USD"), "any"),
        ("wallet", Money(500, "CNY"), "any"),
        (None, Money(500, "CNY"), "any"),
        ("card", Money(500, "EUR"), None),
    ],
)
def test_without_strategies_the_first_that_fits_takes_it(product: str | None, money: Money, takes: str | None) -> None:
    found = select_channel([CARD, ANY], (), payment(product=product, money=money), NothingKnown())
    assert name_of(found) == takes
    if takes != "card":
        assert found.why.startswith("card: ")
    assert not found.out


@pytest.mark.parametrize(
    ("limits", "changed", "obstacle"),
    [
        ({}, {}, None),
        ({"operations": frozenset({Operation.REFUND})}, {}, "does no pay"),
        ({"min_amount": 501}, {}, "takes no such small amount"),
        ({"max_amount": 499}, {}, "takes no such large amount"),
        ({}, {"merchant": Merchant("shop", {}, channels=frozenset({"b"}))}, "is not in the merchant's contract"),
        ({}, {"merchant": Merchant("shop", {}, channels=frozenset({"a"}))}, None),
        ({"protocols": frozenset({Protocol.PAYMESH})}, {"protocol": Protocol.ALIPAY_V2}, "speaks another protocol"),
        ({"protocols": frozenset({Protocol.PAYMESH})}, {}, None),
        (
            {"adapted": True},
            {"merchant": Merchant("shop", {}, in_table=True)},
            "takes no orders of the merchants' table: their numbers could meet at the provider",
        ),
        ({"adapted": True}, {}, None),
        ({"cards": CardLimits(types=frozenset({CardType.DEBIT}))}, {}, "takes cards, and no card is known"),
        ({"cards": CardLimits(types=frozenset({CardType.DEBIT}))}, {"card": Card()}, "does not take this type of card"),
        ({"cards": CardLimits(types=frozenset({CardType.DEBIT}))}, {"card": Card(CardType.DEBIT)}, None),
        ({"cards": CardLimits(bins=("62", "81"))}, {"card": Card(None, "62220212")}, None),
        ({"cards": CardLimits(bins=("622203",))}, {"card": Card(None, "622202")}, "does not take this issuer's cards"),
        ({"cards": CardLimits(bins=("6",))}, {"card": Card(CardType.DEBIT)}, "does not take this issuer's cards"),
        ({"hours": OpeningHours(8 * 3600, ((17 * 3600, 18 * 3600),))}, {}, None),
        ({"hours": OpeningHours(0, ((17 * 3600, 18 * 3600),))}, {}, "is closed at this hour"),
    ],
)
def test_what_stands_in_a_channels_way(limits: dict[str, Any], changed: dict[str, Any], obstacle: str | None) -> None:
    assert obstacle_to(replace(A, **limits), payment(**changed)) == obstacle


def test_a_channel_whose_service_is_down_takes_nothing() -> None:
    found = select_channel([A, B], (), payment(), Known(down=frozenset({"a"})))
    assert (name_of(found), found.out) == ("b", False)
    assert "a: has no healthy host" in found.why
    # Nobody is left: that is an outage, and no refusal.
    assert select_channel([A, B], (), payment(), Known(down=frozenset({"a", "b"}))).out
    found = select_channel([A, B], (), payment(currency="USD"), Known(down=frozenset({"a", "b"})))
    assert not found.out


def test_hours_end_when_they_end_and_come_back_each_week() -> None:
    hours = OpeningHours(8 * 3600, ((0, 100), (WEEK_S - 100, WEEK_S)))
    monday_s = NOW_S - (17 * 3600 + 1800)
    for weeks in (-3000, 0, 1):
        at_s = monday_s + weeks * WEEK_S
        found = [hours.open_at(at_s + offset) for offset in (-101, -100, -1, 0, 99, 100)]
        assert found == [False, True, True, True, True, False]


def test_of_a_card_only_its_beginning_is_kept_and_never_shown() -> None:
    long, short = Pan.parse("6222021234567890123"), Pan.parse("37828224631000")
    kept = card_of(long, "CREDIT")
    assert kept.type is CardType.CREDIT
    assert kept.begins_with("99", "62220212")
    assert not kept.begins_with("622202123")
    assert not card_of(short, None).begins_with("3782822")
    assert card_of(short, None).begins_with("378282")
    assert "6222" not in repr(kept) + repr(payment(card=kept)) + str(kept)
    assert [card_of(None, text).type for text in ("01", "02", "03", "prepaid")] == [
        CardType.DEBIT, CardType.CREDIT, None, None,
    ]  # fmt: skip


def test_rules_prefer_and_restrict() -> None:
    big = Rule(When(min_amount=1000), frozenset({"c"}), only=True)
    shop = Rule(When(merchants=frozenset({"shop"})), frozenset({"b", "gone"}), only=False)
    strategies = [ByRules((big, shop))]
    assert name_of(chosen(strategies, amount=1000)) == "c"
    assert name_of(chosen(strategies, amount=999)) == "b"
    assert name_of(chosen(strategies, amount=999, merchant=None)) == "a"
    first = chosen(strategies, amount=999)
    assert (first.strategy, first.passed_over) == (
        "rules",
        {"a": "a rule prefers another", "c": "a rule prefers another"},
    )
    # Whoever is preferred may be unable; whoever is the only one may not.
    without_c = [A, B]
    assert name_of(select_channel(without_c, strategies, payment(1000), NothingKnown())) is None
    gone = [ByRules((replace(shop, channels=frozenset({"gone"})),))]
    assert name_of(chosen(gone)) == "a"


@pytest.mark.parametrize(
    ("when", "about"),
    [
        (When(), True),
        (When(products=frozenset({"wallet"})), False),
        (When(currencies=frozenset({"USD"})), False),
        (When(min_amount=501), False),
        (When(max_amount=499), False),
        (When(min_amount=500, max_amount=500, products=frozenset({"card"}), currencies=frozenset({"CNY"})), True),
        (When(merchants=frozenset({"other"})), False),
        (When(tiers=frozenset({"gold"})), True),
        (When(tiers=frozenset({"silver"})), False),
        (When(cards=CardLimits(types=frozenset({CardType.CREDIT}))), True),
        (When(cards=CardLimits(types=frozenset({CardType.DEBIT}))), False),
        (When(cards=CardLimits(bins=("6222",))), True),
        (When(cards=CardLimits(bins=("6223",))), False),
    ],
)
def test_what_a_rule_is_about(when: When, about: bool) -> None:
    rule = ByRules((Rule(when, frozenset({"c"}), only=True),))
    known = {"merchant": Merchant("shop", {}, tier="gold"), "card": Card(CardType.CREDIT, "62220212")}
    assert name_of(chosen([rule], **known)) == ("c" if about else "a")


def test_equal_priorities_are_left_to_the_next_strategy() -> None:
    low = replace(B, priority=10)
    both = select_channel([A, low, C], [ByPriority(), ByCost()], payment(10_000), NothingKnown())
    assert (name_of(both), both.strategy) == ("b", "lowest_cost")
    assert both.passed_over == {"c": "comes after by priority", "a": "another costs less"}


def test_shares_are_exact_over_many_orders_and_sticky_for_one() -> None:
    strategies = [ByWeight({"a": 7000, "b": 2975, "c": 25})]
    orders = [f"2026{number:08}" for number in range(40_000)]
    picked = Counter(name_of(chosen(strategies, order_no=order)) for order in orders)
    for name, share in (("a", 0.7), ("b", 0.2975), ("c", 0.0025)):
        sigma = (share * (1 - share) * len(orders)) ** 0.5
        assert abs(picked[name] - share * len(orders)) < 4.5 * sigma
    again = chosen(strategies, order_no="2026")
    assert all(chosen(strategies, order_no="2026") == again for _ in range(3))


def test_every_point_of_the_whole_belongs_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    strategies, points = [ByWeight({"c": 25, "a": 7000, "b": 2975})], iter(range(10_000))
    monkeypatch.setattr(Payment, "draw", lambda *_: next(points))
    assert Counter(name_of(chosen(strategies)) for _ in range(10_000)) == {"a": 7000, "b": 2975, "c": 25}


def test_shares_of_those_that_are_left_stay_in_proportion() -> None:
    strategies = [ByWeight({"a": 5000, "b": 3000, "c": 2000})]
    picked = Counter(
        name_of(select_channel([B, C], strategies, payment(order_no=str(number)), NothingKnown()))
        for number in range(20_000)
    )
    assert abs(picked["b"] - 12_000) < 4.5 * (0.6 * 0.4 * 20_000) ** 0.5
    unnamed = [channel("x"), channel("y")]
    assert name_of(select_channel(unnamed, strategies, payment(), NothingKnown())) == "x"


RATES = st.integers(0, 200).map(lambda value: Decimal(value).scaleb(-4))
TERMS = st.builds(Terms, RATES, st.integers(0, 50), st.integers(0, 20), st.none() | st.integers(20, 5_000))


@given(
    st.lists(st.tuples(TERMS, TERMS, st.integers(1, 10**7)), min_size=1, max_size=6),
    st.integers(1, 10**8),
    st.sampled_from([None, *CardType]),
)
def test_lowest_cost_is_the_lowest_of_all(
    schedules: list[tuple[Terms, Terms, int]], amount: int, card: CardType | None
) -> None:
    candidates = [
        replace(
            channel(str(number), number),
            fees={
                "CNY": FeeSchedule(
                    str(number), Part("standard", one), (Tier(tier, Part("t", two)),), {CardType.DEBIT: Part("d", two)}
                )
            },
        )
        for number, (one, two, tier) in enumerate(schedules)
    ]
    asked = payment(amount, card=None if card is None else Card(card))
    found = select_channel(candidates, [ByCost()], asked, NothingKnown())
    costs = [fee.amount for one in candidates if (fee := fee_of(one, asked)) is not None]
    assert found.fee is not None
    assert found.fee.amount == min(costs)
    assert found.channel is candidates[costs.index(min(costs))], "of equal ones the first by priority"


def test_lowest_cost_equals_brute_force_on_10000_random_amounts() -> None:
    part = Part("standard", Terms(Decimal("0.006"), fixed=0, minimum=10))
    big = Part("from 50000", Terms(Decimal("0.003")))
    candidates = [
        replace(A, fees={"CNY": FeeSchedule("a", part, (Tier(50_000, big),))}),
        replace(B, fees={"CNY": FeeSchedule("b", Part("standard", Terms(Decimal("0.0045"), fixed=30, cap=1300)))}),
        replace(C, fees={"CNY": FeeSchedule("c", Part("standard", Terms(Decimal("0.0055"), cap=1800)))}),
    ]
    picked: Counter[str | None] = Counter()
    for number in range(10_000):
        amount = payment(order_no=f"amount-{number}").draw(0, 1_000_000) + 1
        exact = {  # ten-thousandths of a fen, by hand
            "a": max(100_000, amount * (30 if amount >= 50_000 else 60)),
            "b": min(13_000_000, amount * 45 + 300_000),
            "c": min(18_000_000, amount * 55),
        }
        costs = {name: (cost + 5_000) // 10_000 for name, cost in exact.items()}
        found = select_channel(candidates, [ByCost()], payment(amount), NothingKnown())
        assert found.fee is not None
        assert (name_of(found), found.fee.amount) == min(costs.items(), key=lambda item: (item[1], item[0]))
        picked[name_of(found)] += 1
    assert len(picked) == 3, "each is the cheapest of some"


def test_a_merchants_own_fees_go_before_the_channels() -> None:
    own = {"c": {"CNY": FeeSchedule("own", Part("standard", Terms(Decimal("0.002"))))}}
    found = chosen([ByCost()], amount=10_000, merchant=Merchant("shop", {}, fees=own))
    assert (name_of(found), found.fee) == ("c", Fee(20, "own", "standard"))
    assert followed(B, payment(10_000)).fee == Fee(38, "b-fees", "standard")


def test_of_unknown_cost_is_nobodys_cheapest() -> None:
    unknown = channel("x", 1)
    found = select_channel([unknown, C], [ByCost()], payment(), NothingKnown())
    assert name_of(found) == "c"
    alone = select_channel([unknown], [ByCost()], payment(), NothingKnown())
    assert (name_of(alone), alone.fee) == ("x", None)


SUCCESS = BySuccess(WATCH, band=200, explore=0)


@pytest.mark.parametrize(
    ("rates", "takes"),
    [
        ({}, "a"),
        ({"a": (70, 30), "b": (99, 1), "c": (99, 1)}, "b"),
        ({"a": (97, 3), "b": (99, 1), "c": (99, 1)}, "a"),
        ({"a": (96, 4), "b": (99, 1), "c": (99, 1)}, "b"),
        ({"a": (10, 9), "b": (99, 1), "c": (99, 1)}, "a"),
        ({"a": (70, 30)}, "a"),
        ({"a": (0, 100), "b": (0, 100)}, "a"),
    ],
    ids=["nothing known", "worse", "inside the band", "outside", "too few", "nobody else known", "all bad"],
)
def test_success_rates(rates: dict[str, tuple[int, int]], takes: str) -> None:
    assert name_of(chosen([SUCCESS], rated(**rates))) == takes


def test_inside_the_band_cost_decides() -> None:
    found = chosen([SUCCESS, ByCost()], rated(a=(99, 1), b=(98, 2), c=(100, 0)), amount=10_000)
    assert (name_of(found), found.strategy) == ("b", "lowest_cost")
    found = chosen([SUCCESS, ByCost()], rated(a=(99, 1), b=(90, 10), c=(100, 0)), amount=10_000)
    assert (name_of(found), found.passed_over["b"]) == ("a", "fewer of its payments succeed")


def test_a_share_of_the_orders_explores_each_of_the_others() -> None:
    strategies = [replace(SUCCESS, explore=1000), ByCost()]
    health = rated(a=(70, 30), b=(99, 1), c=(70, 30))
    found = [chosen(strategies, health, order_no=str(number)) for number in range(10_000)]
    picked = Counter(map(name_of, found))
    for name, share in (("a", 0.05), ("b", 0.9), ("c", 0.05)):
        assert abs(picked[name] - share * 10_000) < 4.5 * (share * (1 - share) * 10_000) ** 0.5
    assert all(one.trial == (name_of(one) != "b") for one in found)
    tried = next(one for one in found if one.trial)
    assert "a trial) takes it" in tried.why


def test_exploring_orders_go_to_those_of_which_too_little_is_known() -> None:
    # By cost alone all would go to the best known one, and nothing would ever be known of the others.
    strategies = [replace(SUCCESS, explore=1000), ByCost()]
    found = [chosen(strategies, rated(b=(70, 30)), order_no=str(number)) for number in range(1_000)]
    assert {name_of(one) for one in found if one.trial} == {"a", "c"}
    known = rated(a=(99, 1), b=(99, 1), c=(99, 1))
    assert not any(chosen(strategies, known, order_no=str(number)).trial for number in range(1_000))


OUT = Eliminate(OUT_WATCH, probe_share=1000, try_when_all_out=True)


def test_a_channel_that_is_out_takes_nothing_but_probes() -> None:
    assert name_of(chosen([OUT], placed(a=Place.PAUSED))) == "b"
    found = [chosen([OUT], placed(a=Place.PROBED), order_no=str(number)) for number in range(10_000)]
    probes = [one for one in found if name_of(one) == "a"]
    assert abs(len(probes) - 1000) < 4.5 * (0.1 * 0.9 * 10_000) ** 0.5
    assert all(one.trial for one in probes)
    assert {name_of(one) for one in found} == {"a", "b"}
    assert next(one for one in found if not one.trial).passed_over["a"] == "is out: its payments fail"


def test_when_all_are_out() -> None:
    everybody = placed(a=Place.PAUSED, b=Place.PAUSED, c=Place.PAUSED)
    assert name_of(chosen([OUT, ByCost()], everybody, amount=10_000)) == "b"
    refuses = replace(OUT, try_when_all_out=False)
    refused = chosen([refuses], everybody)
    assert (refused.channel, refused.out) == (None, True)
    assert set(refused.passed_over) == {"a", "b", "c"}
    found = chosen([refuses, ByCost(), ByDefault("c")], everybody)
    assert (name_of(found), found.strategy) == ("c", "default")
    assert "c" not in found.passed_over


def test_default_takes_nothing_that_it_may_not_take() -> None:
    nobody = [ByRules((Rule(When(), frozenset({"x"}), only=True),)), ByDefault("card")]
    found = select_channel([CARD, ANY], nobody, payment(99), NothingKnown())
    assert (found.channel, found.out) == (None, False)
    assert name_of(select_channel([CARD, ANY], nobody, payment(100), NothingKnown())) == "card"


def test_a_selection_tells_no_amount_and_nothing_of_a_card() -> None:
    bounded = replace(CARD, cards=CardLimits(bins=("98765",)))
    card = Card(CardType.DEBIT, "62220212")
    found = select_channel([CARD, bounded, A, B], [ByCost()], payment(77_777, card=card, product="p"), NothingKnown())
    assert not any(digits in found.why for digits in ("77777", "100", "2000", "6222", "98765", "467", "296"))


@pytest.mark.parametrize("amount", [0, -1, MAX_MINOR_UNITS + 1, True, 1.0, "1", None])
def test_money_is_whole_positive_minor_units(amount: object) -> None:
    with pytest.raises(ValueError, match="amount"):
        Money(amount, "CNY")  # type: ignore[arg-type]


@pytest.mark.parametrize("currency", ["cny", "CN", "CNYX", "", "人民币", None])
def test_a_currency_is_an_iso_4217_code(currency: object) -> None:
    with pytest.raises(ValueError, match="currency"):
        Money(1, currency)  # type: ignore[arg-type]
