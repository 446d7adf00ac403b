"""What a record of an offline payment may say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.events.types import OfflineMethod, OfflineRecorded, ToldBy
from paymesh.payments.money import MAX_MINOR_UNITS, Money
from paymesh.payments.offline.record import FIELDS, REQUIRED, Teller, Violation, make_record, rfc3339

NOW_S = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp())
TELLER = Teller("shop", NOW_S * 1_000_000 + 7, ToldBy.MERCHANT)
GOOD: dict[str, object] = {
    "reference": "R-1",
    "amount": 8800,
    "currency": "CNY",
    "method": "cash",
    "paid_at": "2026-03-01T12:30:00+08:00",
}
PAN = "6222021234567890128"


def made(**changed: object) -> OfflineRecorded:
    found = make_record(GOOD | changed, TELLER)
    assert isinstance(found, OfflineRecorded), found
    return found


def wrong(**changed: object) -> list[str]:
    found = make_record(GOOD | changed, TELLER)
    assert isinstance(found, tuple)
    return [one.field for one in found]


def test_what_is_told_is_recorded() -> None:
    record = made(order_no="A|b*.1", store="S_1", terminal="T-1", note="三号桌, together")
    assert record.money == Money(8800, "CNY")
    assert (record.merchant, record.at_us, record.told_by, record.actor) == ("shop", TELLER.at_us, "merchant", "")
    assert (record.method, rfc3339(record.paid_at_s)) == (OfflineMethod.CASH, "2026-03-01T04:30:00Z")
    assert (record.order_no, record.store, record.terminal, record.note) == ("A|b*.1", "S_1", "T-1", "三号桌, together")


def test_what_is_missing_is_told_at_once() -> None:
    found = make_record({}, TELLER)
    assert found == tuple(Violation(name, "is missing") for name in FIELDS if name in REQUIRED)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("reference", ["", "a" * 65, "a:b", "a/b", "a.b", "a b", "a\n", "é", "١٢", None, 5, True, ["x"]]),
        ("order_no", ["", "a b", "a:b", "a" * 65, None]),
        ("store", ["", "a.b", "\u200b", None]),
        ("terminal", ["T 1", 7]),
        ("amount", [0, -1, MAX_MINOR_UNITS + 1, True, 1.0, "100", None, "1e3"]),
        ("currency", ["", "cny", "XAU", "156", "RMB", None, 156]),
        ("method", ["", "Cash", "card", None, 1, ["cash"]]),
        ("note", ["", "a" * 201, "two\nlines", "nul\0", "\x9b", None, 1]),
        ("paid_at", [
            "", "2026-03-01", "2026-03-01T12:30:00", "2026-03-01 12:30:00Z", "2026-02-30T12:30:00Z", None, 1772339400,
            "2026-03-01T12:30:00+25:00", "2026-03-01T24:30:00Z", "1999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59",
            "2026-03-01T12:30Z", "20260301T123000Z", "2026-03-01T12:30:00Z\n", "٢026-03-01T12:30:00Z",
        ]),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_refused(field: str, values: list[object]) -> None:
    for value in values:
        assert wrong(**{field: value}) == [field], value


@pytest.mark.parametrize(
    "time", ["2026-03-01T04:30:00Z", "2026-03-01T04:30:00.123456789Z", "2026-02-28T20:30:00-08:00"]
)
def test_one_moment_is_one_payment_however_it_is_written(time: str) -> None:
    assert made(paid_at=time).says_the_same(made())
    assert not made(paid_at=time).says_the_same(made(note="other"))


def test_a_till_may_be_ahead_and_no_more() -> None:
    assert made(paid_at=rfc3339(NOW_S + 300)).paid_at_s == NOW_S + 300
    assert wrong(paid_at=rfc3339(NOW_S + 301)) == ["paid_at"]
    assert wrong(paid_at="9999-12-31T23:59:59Z", reference="") == ["reference", "paid_at"]


@pytest.mark.parametrize(
    "text",
    [PAN, f"card {PAN[:4]} {PAN[4:8]} {PAN[8:12]} {PAN[12:16]} {PAN[16:]}", "call 13812341234", "a@example.com",
     "11010519491231002X", "６２２２０２１２３４５６７８９０１２８"],
)  # fmt: skip
def test_a_note_with_personal_data_is_refused_and_not_repeated(text: str) -> None:
    (violation,) = make_record(GOOD | {"note": text}, TELLER)  # type: ignore[misc]
    assert violation.field == "note"
    assert violation.what.startswith("holds what looks like personal data: ")
    assert text not in violation.what


@pytest.mark.parametrize("field", ["reference", "order_no", "store", "terminal"])
def test_no_number_is_a_cards(field: str) -> None:
    assert wrong(**{field: PAN}) == [field]
    assert made(**{field: "13812341234"}), "a receipt's number may look like a phone's"


VALUES: Any = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.floats(), st.lists(st.text(), max_size=2),
    st.sampled_from([*GOOD.values()]),
)  # fmt: skip


@given(values=st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_whatever_is_told_is_recorded_or_refused(values: dict[str, object]) -> None:
    found = make_record(GOOD | values, TELLER)
    assert isinstance(found, OfflineRecorded | tuple)
    for one in found if isinstance(found, tuple) else ():
        assert one.field in FIELDS
        value = (GOOD | values)[one.field]
        assert not isinstance(value, str) or len(value) < 3 or value not in one.what
