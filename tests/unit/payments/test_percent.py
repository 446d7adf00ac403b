"""Percentages: what is written comes back, and what is no percentage is not guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.percent import format_percent, parse_percent


@given(st.integers(0, 99_999))
def test_what_is_written_is_read_back(weight: int) -> None:
    assert parse_percent(format_percent(weight)) == weight


@pytest.mark.parametrize(("text", "weight"), [("90", 9000), ("0.25", 25), ("0.2", 20), ("100.00", 10_000)])
def test_short_forms(text: str, weight: int) -> None:
    assert parse_percent(text) == weight


@pytest.mark.parametrize("text", ["", ".5", "5.", "0.001", "-1", "1e2", "1000", "１", " 1", "1%"])
def test_what_is_no_percentage(text: str) -> None:
    assert parse_percent(text) is None
