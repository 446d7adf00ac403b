"""Fees: every vector, how the parts of a schedule apply, and what must hold for any schedule and amount."""

from __future__ import annotations

import json
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.fees import (
    CardType,
    Fee,
    FeeSchedule,
    Part,
    Promotion,
    RefundRule,
    Terms,
    Tier,
    fee,
    fee_returned,
)
from paymesh.payments.money import MAX_MINOR_UNITS

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).resolve().parents[2] / "vectors" / "fees.json").read_text(encoding="utf-8")
)
RATED = [one for one in VECTORS["observed"] + VECTORS["computed"] if "rate" in one]
AT_S = 1_790_000_000


def schedule(**terms: Any) -> FeeSchedule:
    return FeeSchedule("s", Part("standard", Terms(**terms)))


@pytest.mark.parametrize("vector", RATED, ids=lambda one: f"{one['amount_fen']}x{one['rate']}")
def test_vectors(vector: dict[str, Any]) -> None:
    wanted = vector.get("fee_half_up", vector.get("fee_fen"))
    assert fee(schedule(rate=Decimal(vector["rate"])), vector["amount_fen"], None, AT_S).amount == wanted


@pytest.mark.parametrize("vector", [one for one in VECTORS["observed"] if "rate" not in one])
def test_a_bill_that_shows_no_rate_agrees_with_the_usual_ones(vector: dict[str, Any]) -> None:
    charged = {
        rate: fee(schedule(rate=Decimal(rate)), vector["amount_fen"], None, AT_S).amount
        for rate in ("0.006", "0.0055", "0.01")
    }
    assert set(charged.values()) == {vector["fee_fen"]}


def test_the_rates_seen() -> None:
    debit = Part("debit", Terms(Decimal("0.0035"), cap=1300))
    credit = Part("credit", Terms(Decimal("0.0045")))
    cards = FeeSchedule(
        "cards", Part("standard", Terms(Decimal("0.006"))), cards={CardType.DEBIT: debit, CardType.CREDIT: credit}
    )
    assert fee(cards, 100_000, CardType.DEBIT, AT_S) == Fee(350, "cards", "debit")
    assert fee(cards, 1_000_000, CardType.DEBIT, AT_S) == Fee(1300, "cards", "debit")
    assert fee(cards, 1_000_000, CardType.CREDIT, AT_S) == Fee(4500, "cards", "credit")
    assert fee(cards, 1_000_000, None, AT_S) == Fee(6000, "cards", "standard")


def test_parts_apply_in_their_order() -> None:
    promoted = Promotion(100, 200, Part("spring", Terms(Decimal("0.0038"))))
    for_debit = Promotion(150, 300, Part("debit weeks", Terms(Decimal(0))), frozenset({CardType.DEBIT}))
    tiers = (Tier(1_000, Part("from 1000", Terms(Decimal("0.005")))), Tier(5_000, Part("from 5000", Terms(Decimal(0)))))
    cards = {CardType.CREDIT: Part("credit", Terms(Decimal("0.01")))}
    made = FeeSchedule("s", Part("standard", Terms(Decimal("0.006"))), tiers, cards, (promoted, for_debit))

    def part(amount: int, card: CardType | None, at_s: int) -> str:
        return fee(made, amount, card, at_s).part

    assert [part(10_000, None, at_s) for at_s in (99, 100, 199, 200)] == ["from 5000", "spring", "spring", "from 5000"]
    assert part(10_000, CardType.DEBIT, 250) == "debit weeks"
    assert part(10_000, CardType.CREDIT, 250) == "credit"
    assert [part(amount, None, 0) for amount in (999, 1_000, 4_999, 5_000)] == [
        "standard", "from 1000", "from 1000", "from 5000",
    ]  # fmt: skip


def test_fixed_part_minimum_and_cap() -> None:
    made = schedule(rate=Decimal("0.01"), fixed=30, minimum=50, cap=200)
    assert [fee(made, amount, None, AT_S).amount for amount in (1, 1_000, 2_000, 2_050, 17_000, 10**9)] == [
        50, 50, 50, 51, 200, 200,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "terms",
    [
        {"rate": Decimal("1.01")},
        {"rate": Decimal("-0.1")},
        {"rate": Decimal("NaN")},
        {"rate": 0.006},
        {"rate": Decimal(0), "fixed": -1},
        {"rate": Decimal(0), "minimum": 10, "cap": 9},
    ],
)
def test_what_cannot_be_charged_is_refused(terms: dict[str, Any]) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        Terms(**terms)


AMOUNTS = st.integers(1, MAX_MINOR_UNITS)
RATES = st.decimals(0, 1, places=8, allow_nan=False, allow_infinity=False)
BOUNDS = st.tuples(st.integers(0, 10_000), st.integers(0, 10_000), st.none() | st.integers(0, 100_000)).filter(
    lambda bounds: bounds[2] is None or bounds[1] <= bounds[2]
)


@given(AMOUNTS, AMOUNTS, RATES, BOUNDS)
def test_more_is_never_cheaper_and_bounds_hold(
    one: int, other: int, rate: Decimal, bounds: tuple[int, int, int | None]
) -> None:
    fixed, minimum, cap = bounds
    made = schedule(rate=rate, fixed=fixed, minimum=minimum, cap=cap)
    low, high = (fee(made, amount, None, AT_S).amount for amount in sorted((one, other)))
    assert minimum <= low <= high
    assert cap is None or high <= cap


@given(AMOUNTS, st.integers(0, 10**8))
def test_rounded_half_up_exactly_whatever_the_threads_context(amount: int, rate_e8: int) -> None:
    made = schedule(rate=Decimal(rate_e8).scaleb(-8))
    with localcontext() as context:
        context.prec = 4
        charged = fee(made, amount, None, AT_S).amount
    assert charged == (2 * amount * rate_e8 + 10**8) // (2 * 10**8)


@given(st.integers(0, 10**6), st.lists(st.integers(1, 10**9), min_size=1, max_size=12), st.integers(0, 10**9))
def test_refunds_in_parts_return_what_one_would(charged: int, refunds: list[int], kept: int) -> None:
    paid, before, back = sum(refunds) + kept, 0, 0
    for refund in refunds:
        returned = fee_returned(RefundRule.PROPORTIONAL, charged, paid, before, refund)
        assert returned >= 0
        back, before = back + returned, before + refund
        assert back <= charged
    assert back == fee_returned(RefundRule.PROPORTIONAL, charged, paid, 0, before)
    if kept == 0:
        assert back == charged


@given(st.integers(0, 10**6), st.lists(st.integers(1, 10**9), min_size=1, max_size=5))
def test_fees_kept_and_returned_whole(charged: int, refunds: list[int]) -> None:
    paid = sum(refunds)
    befores = [sum(refunds[:number]) for number in range(len(refunds))]
    for rule, wanted in ((RefundRule.KEPT, 0), (RefundRule.FULL, charged)):
        back = [fee_returned(rule, charged, paid, *parts) for parts in zip(befores, refunds, strict=True)]
        assert sum(back) == wanted


@pytest.mark.parametrize(("before", "refund"), [(0, 0), (0, -1), (0, 101), (60, 41), (-1, 1)])
def test_a_refund_is_no_more_than_was_paid(before: int, refund: int) -> None:
    with pytest.raises(ValueError, match="refund"):
        fee_returned(RefundRule.PROPORTIONAL, 10, 100, before, refund)
