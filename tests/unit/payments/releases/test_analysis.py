"""A version is judged by counts, and chance is told from harm."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.releases.analysis import (
    Counted,
    Finding,
    LatencyRule,
    RateRule,
    difference_bounds,
    judge_latency,
    judge_rate,
    overall,
    quantile,
    rate_bounds,
)
from paymesh.payments.releases.state import Verdict

RULE = RateRule("success", max_drop=0.02)


@pytest.mark.parametrize(
    ("stable", "target", "verdict"),
    [
        (Counted(9900, 10_000), Counted(990, 1000), Verdict.PASS),
        (Counted(9900, 10_000), Counted(940, 1000), Verdict.FAIL),
        (Counted(9900, 10_000), Counted(970, 1000), Verdict.INCONCLUSIVE),
        (Counted(9900, 10_000), Counted(99, 99), Verdict.INCONCLUSIVE),
        (Counted(99, 99), Counted(990, 1000), Verdict.INCONCLUSIVE),
        (Counted(0, 1000), Counted(0, 1000), Verdict.PASS),
        (Counted(1000, 1000), Counted(1000, 1000), Verdict.PASS),
        (Counted(1000, 1000), Counted(0, 1000), Verdict.FAIL),
        # Better is never worse.
        (Counted(900, 1000), Counted(1000, 1000), Verdict.PASS),
    ],
)
def test_a_rate_against_the_stable_ones(stable: Counted, target: Counted, verdict: Verdict) -> None:
    assert judge_rate(RULE, stable, target).verdict is verdict


def test_the_score_interval_is_the_published_one() -> None:
    """Newcombe 1998, table II, case (a) 56/70 against 48/80, two-sided 95%: 0.0524 to 0.3339."""
    low, high = difference_bounds(Counted(56, 70), Counted(48, 80), 0.975)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)
    # Wilson's interval of 81/263, two-sided 95%: 0.2553 to 0.3662 (Newcombe 1998, the companion paper, table I).
    low, high = rate_bounds(Counted(81, 263), 0.975)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_a_version_as_good_as_the_other_is_hardly_ever_failed() -> None:
    chance, failed, runs = random.Random(8), 0, 2000
    for _ in range(runs):
        stable, target = (Counted(sum(chance.random() < 0.97 for _ in range(200)), 200) for _ in range(2))
        failed += judge_rate(RateRule("success", max_drop=0), stable, target).verdict is Verdict.FAIL
    assert failed / runs < 0.08


@given(st.integers(1, 5000), st.integers(0, 5000), st.integers(1, 5000), st.integers(0, 5000))
def test_bounds_hold_what_was_seen(total: int, well: int, others: int, good: int) -> None:
    one, two = Counted(min(well, total), total), Counted(min(good, others), others)
    low, high = difference_bounds(one, two, 0.95)
    assert low <= one.well / one.total - two.well / two.total + 1e-12
    assert high >= one.well / one.total - two.well / two.total - 1e-12


@pytest.mark.parametrize(
    ("rule", "target", "verdict"),
    [
        (LatencyRule("p99", 0.99, max_ratio=1.5), {50: 100}, Verdict.PASS),
        (LatencyRule("p99", 0.99, max_ratio=1.5), {50: 98, 200: 2}, Verdict.FAIL),
        (LatencyRule("p99", 0.99, max_ratio=1.5, max_ms=200), {50: 98, 200: 2}, Verdict.PASS),
        (LatencyRule("p50", 0.5, max_ratio=1.0), {50: 98, 200: 2}, Verdict.PASS),
        (LatencyRule("p99", 0.99), {1: 100}, Verdict.FAIL),
        (LatencyRule("p99", 0.99, max_ms=1), {1: 99}, Verdict.INCONCLUSIVE),
    ],
)
def test_a_latency_against_the_stable_ones(rule: LatencyRule, target: dict[int, int], verdict: Verdict) -> None:
    assert judge_latency(rule, {50: 100}, target).verdict is verdict


def test_a_quantile_is_never_told_better_than_it_is() -> None:
    assert [quantile({10: 1, 20: 1, 30: 2}, share) for share in (0.25, 0.26, 0.5, 0.51, 1)] == [10, 20, 20, 30, 30]
    with pytest.raises(ValueError, match="no exchange"):
        quantile({}, 0.5)


def test_one_failure_is_enough_and_nothing_is_no_pass() -> None:
    def found(*verdicts: Verdict) -> Verdict:
        return overall([Finding("r", verdict, "") for verdict in verdicts])

    assert found(Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE) is Verdict.FAIL
    assert found(Verdict.PASS, Verdict.INCONCLUSIVE) is Verdict.INCONCLUSIVE
    assert found(Verdict.PASS, Verdict.PASS) is Verdict.PASS
    assert found() is Verdict.INCONCLUSIVE
