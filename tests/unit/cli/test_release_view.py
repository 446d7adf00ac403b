"""How a release's values read: marks of steps, sparklines, shares, spans and amounts."""

from __future__ import annotations

import pytest

from control_plane.releases import releases_pb2 as pb
from paymesh.cli.release.glyphs import ASCII, BLOCKS, glyphs_for, sparkline
from paymesh.cli.release.values import amounts, moment, percent, success_percent
from paymesh.cli.release.view import view
from paymesh.payments.money import decimal_of_minor_units, minor_units_of_decimal
from paymesh.payments.releases.words import duration_in_words
from tests.unit.cli.scripted_releases import a_release


def _marks(release: pb.Release) -> str:
    return "".join(line[2] for line in view(release, 0, ASCII) if line[:2] == "  ")


@pytest.mark.parametrize(
    ("changed", "marks"),
    [
        ({}, "xxx>."),
        ({"phase": "frozen"}, "xxx>."),
        ({"phase": "rolling_back"}, "xxx!."),
        ({"phase": "draining", "set_weight": 0}, "xxx!."),
        ({"phase": "draining", "set_weight": 10_000}, "xxx.."),
        ({"phase": "promoted"}, "xxx.."),
        ({"phase": "promoted", "step": 5}, "xxxxx"),
        ({"phase": "isolated", "step": 5}, "xxxxx"),
    ],
)
def test_marks_of_steps(changed: dict[str, object], marks: str) -> None:
    assert _marks(a_release(**changed)) == marks


def test_what_is_left_of_a_hold() -> None:
    release = a_release()
    assert "Phase:        holding until 2026-01-02T03:04:05Z (1m5s left)" in view(release, 1_767_322_980, BLOCKS)


def test_without_analysis_nothing_is_judged() -> None:
    lines = view(a_release(analysed=False, verdict="", findings=[]), 0, BLOCKS)
    assert "Verdict:      - (without analysis)" in lines
    assert not any(line.startswith("CHECK") for line in lines)


def test_a_sparkline_shows_a_single_error() -> None:
    assert sparkline([0, 1, 500, 1_000], BLOCKS.bars) == "▁▂▅█"
    assert sparkline([0, 0], BLOCKS.bars) == "▁▁"
    assert sparkline([], BLOCKS.bars) == ""


@pytest.mark.parametrize(
    ("encoding", "blocks"),
    [("utf-8", True), ("ascii", False), ("latin-1", False), (None, False), ("unheard-of", False)],
)
def test_blocks_where_the_encoding_has_them(encoding: str | None, blocks: bool) -> None:
    assert glyphs_for(encoding) is (BLOCKS if blocks else ASCII)


def test_one_failure_is_never_shown_as_all_well() -> None:
    assert success_percent(999_999, 1_000_000) == "99.99%"
    assert success_percent(10, 10) == "100.00%"
    assert success_percent(0, 0) == "-"


def test_values() -> None:
    assert (percent(1), percent(9_975), percent(10_000)) == ("0.01%", "99.75%", "100.00%")
    assert (duration_in_words(0), duration_in_words(300), duration_in_words(3_723)) == ("0s", "5m", "1h2m3s")
    assert (moment(0), moment(1)) == ("-", "1970-01-01T00:00:01Z")
    money = [pb.Money(currency="CNY", amount=5), pb.Money(currency="JPY", amount=5), pb.Money(currency="BHD", amount=5)]
    assert amounts(money) == "0.05 CNY + 5 JPY + 5 minor units of BHD"


def test_decimals_are_exact_and_never_guessed() -> None:
    assert decimal_of_minor_units(8_888, "CNY") == "88.88"
    assert minor_units_of_decimal(decimal_of_minor_units(10**13 + 1, "USD"), "USD") == 10**13 + 1
    assert decimal_of_minor_units(0, "KRW") == "0"
    for amount, currency in ((1, "BHD"), (-1, "CNY")):
        with pytest.raises(ValueError, match=r"decimals|negative"):
            decimal_of_minor_units(amount, currency)
