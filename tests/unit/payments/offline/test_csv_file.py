"""A list of offline payments: every row or none, and each error with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.offline import csv_file
from paymesh.payments.offline.csv_file import CellError, Row, read_csv
from tests.unit.payments.offline.test_record import PAN, TELLER, made

HEADER = "reference,amount,currency,method,paid_at,note"
ROW = "R-1,8800,CNY,cash,2026-03-01T12:30:00+08:00,"


def read(*lines: str, end: str = "\n") -> list[Row]:
    found = read_csv(end.join((*lines, "")).encode(), TELLER)
    assert not isinstance(found, tuple), found
    return list(found)


def errors(*lines: str) -> list[tuple[int, str]]:
    found = read_csv("\n".join(lines).encode(), TELLER)
    assert isinstance(found, tuple), found
    return [(one.row, one.column) for one in found]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_is_read_by_the_names_of_its_columns(end: str) -> None:
    assert read(HEADER, ROW, end=end) == [Row(2, made())]
    mixed = read("paid_at,method,currency,amount,reference", "2026-03-01T12:30:00+08:00,cash,CNY,8800,R-1", end=end)
    assert mixed == [Row(2, made())]
    noted = read("\ufeff" + HEADER, ROW + '"三号桌, ""together"""', "", ROW.replace("R-1", "R-2"), end=end)
    assert noted == [Row(2, made(note='三号桌, "together"')), Row(4, made(reference="R-2"))]


def test_every_error_is_told_with_row_and_column() -> None:
    assert errors(HEADER, ROW, "R 2,88.00,rmb,barter,yesterday," + PAN, ROW.replace("R-1", "R-3") + ",") == [
        (3, "reference"), (3, "amount"), (3, "currency"), (3, "method"), (3, "paid_at"), (3, "note"), (4, ""),
    ]  # fmt: skip
    assert errors(HEADER, ROW, ROW) == [(3, "reference")], "which of the two was meant?"
    assert errors(HEADER, ",,,,,") == [(2, one) for one in ("reference", "amount", "currency", "method", "paid_at")]
    for amount in ("1.0", "1e3", "-1", "+1", " 1", "1,000", "١", "0"):
        assert errors(HEADER, ROW.replace("8800", f'"{amount}"')) == [(2, "amount")]


def test_a_header_is_required() -> None:
    assert errors() == [(1, "")]
    assert (1, "reference") in errors(ROW)
    assert errors(HEADER + ",payer,note", ROW) == [(1, "note"), (1, "column 7")]
    assert errors(HEADER.replace("amount,", ""), ROW) == [(1, "amount")]
    assert PAN not in str(read_csv(f"{HEADER},{PAN}\n".encode(), TELLER))


def test_what_is_no_csv_in_utf8_is_refused() -> None:
    assert read_csv(f"{HEADER}\n{ROW}".encode() + "三".encode("gbk"), TELLER) == (CellError(2, "", "is not UTF-8"),)
    assert errors(HEADER, ROW + '"open') == [(2, "")]
    assert errors(HEADER, ROW + '"a"b') == [(2, "")]
    assert errors(HEADER, ROW + '"two\nlines"', ROW.replace("R-1", "R 2")) == [(2, "note"), (3, "reference")]


def test_a_file_that_is_another_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "MAX_ERRORS", 3)
    assert errors(HEADER, *["x"] * 9) == [(2, ""), (3, ""), (4, ""), (5, "")]
    monkeypatch.setattr(csv_file, "MAX_ROWS", 2)
    assert errors(HEADER, *(ROW.replace("R-1", f"R-{number}") for number in range(5))) == [(4, "")]
    monkeypatch.setattr(csv_file, "MAX_BYTES", 10)
    assert errors(HEADER) == [(1, "")]


@given(
    data=st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: f"{HEADER}\n{text}".encode("utf-8", "replace"))
)
def test_whatever_a_file_holds_it_is_read_or_refused(data: bytes) -> None:
    found = read_csv(data, TELLER)
    assert isinstance(found, list | tuple)
