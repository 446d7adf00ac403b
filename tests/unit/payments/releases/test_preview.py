"""A preview says who would move: only towards what grows, in the salt's own order, and as many as the weights say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.releases.exposure import Recent
from paymesh.payments.releases.preview import Move, Share, preview, version_of
from paymesh.payments.releases.traffic import TOTAL
from paymesh.payments.split import split_value
from tests.binomial import binomial_bounds

MERCHANTS = [f"m{number}" for number in range(2_000)]
SEEN = {merchant: Recent(1) for merchant in MERCHANTS[:300]}
SALTS = ["", "trade", "trade-v2", "2026-11", "盐"]
WEIGHTS = st.integers(0, TOTAL)


def on_target(salt: str, weight: int, merchants: list[str]) -> set[str]:
    weights = {"v1": TOTAL - weight, "v2": weight}
    return {one for one in merchants if version_of(split_value(salt, one, ""), weights) == "v2"}


class TestMoves:
    @given(st.text(max_size=8), WEIGHTS, WEIGHTS)
    def test_growing_a_version_moves_merchants_to_it_and_nobody_away(self, salt: str, one: int, other: int) -> None:
        small, large = sorted((one, other))
        grown = preview(SEEN, salt, {"v1": TOTAL - small, "v2": small}, {"v1": TOTAL - large, "v2": large})
        assert {(move.now, move.then) for move in grown.moves} <= {("v1", "v2")}
        merchants = list(SEEN)
        assert {move.merchant for move in grown.moves} == on_target(salt, large, merchants) - on_target(
            salt, small, merchants
        )
        back = preview(SEEN, salt, {"v1": TOTAL - large, "v2": large}, {"v1": TOTAL - small, "v2": small})
        assert {(move.merchant, move.now, move.then) for move in back.moves} == {
            (move.merchant, move.then, move.now) for move in grown.moves
        }

    @given(st.text(max_size=8), st.tuples(WEIGHTS, WEIGHTS, WEIGHTS))
    def test_between_two_of_three_the_third_keeps_its_own(self, salt: str, cuts: tuple[int, int, int]) -> None:
        """The one that grows takes from its neighbour; whoever is on the third one, on either side, stays there."""
        low, middle, high = sorted(cuts)
        first = preview(SEEN, salt, _three(low, high), _three(middle, high))
        assert {(move.now, move.then) for move in first.moves} <= {("v2", "v1")}
        last = preview(SEEN, salt, _three(low, middle), _three(low, high))
        assert {(move.now, move.then) for move in last.moves} <= {("v3", "v2")}

    def test_two_salts_do_not_send_the_same_merchants_first(self) -> None:
        one, other = (on_target(salt, 100, MERCHANTS) for salt in ("one", "other"))
        low, high = binomial_bounds(len(MERCHANTS), 0.01)
        assert low <= len(one) <= high
        assert low <= len(other) <= high
        # Chance alone makes 0.2 of 2,000 be in both; more than three once in 20,000 times.
        assert len(one & other) <= 3

    def test_a_new_salt_moves_both_ways(self) -> None:
        half = {"v1": TOTAL // 2, "v2": TOTAL // 2}
        assert preview(SEEN, "one", half, half).moves == ()
        moves = preview(SEEN, "one", half, half, "other").moves
        assert {(move.now, move.then) for move in moves} == {("v1", "v2"), ("v2", "v1")}
        low, high = binomial_bounds(len(SEEN), 0.5)
        assert low <= len(moves) <= high

    def test_those_with_the_most_payments_come_first(self) -> None:
        seen = {"b": Recent(2), "a": Recent(2), "c": Recent(9, {"CNY": 5}), "d": Recent(1)}
        found = preview(seen, "", {"v1": TOTAL, "v2": 0}, {"v1": 0, "v2": TOTAL})
        assert found.moves[0] == Move("c", "v1", "v2", Recent(9, {"CNY": 5}))
        assert [move.merchant for move in found.moves] == ["c", "a", "b", "d"]


class TestShares:
    @given(
        st.dictionaries(
            st.text(max_size=6),
            st.builds(
                Recent, st.integers(1, 1_000), st.dictionaries(st.sampled_from(["CNY", "JPY"]), st.integers(1, 10**12))
            ),
            max_size=30,
        ),
        WEIGHTS,
    )
    def test_payments_and_amounts_are_all_there_and_where_they_go(self, seen: Mapping[str, Recent], new: int) -> None:
        found = preview(seen, "salt", {"v1": TOTAL, "v2": 0}, {"v1": TOTAL - new, "v2": new})
        assert [(one.version, one.set_weight, one.new_weight) for one in found.shares] == [
            ("v1", TOTAL, TOTAL - new),
            ("v2", 0, new),
        ]
        moved = {move.merchant for move in found.moves}
        for share, here in zip(found.shares, (seen.keys() - moved, moved), strict=True):
            amounts: Counter[str] = Counter()
            for merchant in here:
                amounts.update(seen[merchant].amounts)
            assert share.payments == sum(seen[merchant].payments for merchant in here)
            assert share.amounts == amounts

    def test_of_nobody_there_are_the_weights_alone(self) -> None:
        found = preview({}, "salt", {"v1": TOTAL}, {"v1": 9_000, "v2": 1_000})
        assert found.shares == (Share("v1", TOTAL, 9_000, 0, {}), Share("v2", 0, 1_000, 0, {}))
        assert found.moves == ()


class TestVersionOf:
    @pytest.mark.parametrize("salt", SALTS)
    @pytest.mark.parametrize("weight", [1, 100, 1_000, 5_000])
    def test_as_many_as_the_weight_says(self, salt: str, weight: int) -> None:
        merchants = [f"merchant-{number}" for number in range(10_000)]
        low, high = binomial_bounds(len(merchants), weight / TOTAL)
        assert low <= len(on_target(salt, weight, merchants)) <= high

    @given(st.text())
    def test_all_or_nothing(self, merchant: str) -> None:
        split = split_value("salt", merchant, "")
        assert version_of(split, {"v1": TOTAL, "v2": 0}) == "v1"
        assert version_of(split, {"v1": 0, "v2": TOTAL}) == "v2"

    def test_the_bounds_are_the_binomial_distributions(self) -> None:
        # Of ten coins 0 or 1 shows heads in 11 of 1,024 cases, 0 to 2 in 56.
        assert binomial_bounds(10, 0.5, confidence=0.9) == (2, 8)
        assert binomial_bounds(10_000, 0.0001) == (0, 6)

    def test_weights_that_do_not_add_up_are_refused(self) -> None:
        with pytest.raises(ValueError, match="do not add up to 10000"):
            version_of(split_value("salt", "m1", ""), {"v1": 0, "v2": 0})


def _three(low: int, high: int) -> dict[str, int]:
    """The first has what is below `low`, the last what is from `high` on."""
    return {"v1": low, "v2": high - low, "v3": TOTAL - high}
