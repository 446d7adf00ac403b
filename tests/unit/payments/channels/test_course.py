"""A channel that fails 30 of 100 payments, in simulated time: its traffic leaves it within a minute, and comes back."""

from __future__ import annotations

import pytest

from bench.channels import LISTS, OUT, SHARES, SUCCESS, microseconds, simulate
from paymesh.payments.policy.channel_rules import ByCost, Strategy


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "strategies",
    [(SUCCESS, ByCost()), (SUCCESS, SHARES), (OUT, ByCost()), (OUT, SUCCESS, ByCost())],
    ids=["success_rate and cost", "success_rate and shares", "eliminate and cost", "all three"],
)
def test_traffic_leaves_a_failing_channel_within_a_minute_and_comes_back(
    strategies: tuple[Strategy, ...], seed: int
) -> None:
    course = simulate(strategies, per_second=50, seed=seed)
    assert course.usual > 0.45, "else there was nothing to move"
    assert course.moved >= 0.8
    assert course.gone_after_s is not None
    assert course.gone_after_s <= 60
    assert course.back_after_s is not None
    assert course.at_the_end >= 0.8


def test_without_such_a_strategy_nothing_moves() -> None:
    course = simulate((ByCost(),), per_second=20)
    assert (course.moved, course.usual) == (0, 1)


def test_the_same_seed_is_the_same_course() -> None:
    assert simulate((SUCCESS, ByCost()), per_second=5) == simulate((SUCCESS, ByCost()), per_second=5)


@pytest.mark.parametrize("strategies", [one for _, one in LISTS], ids=[name for name, _ in LISTS])
def test_a_choice_among_eight_channels_can_be_measured(strategies: tuple[Strategy, ...]) -> None:
    assert microseconds(strategies, rounds=2, each=20) > 0
