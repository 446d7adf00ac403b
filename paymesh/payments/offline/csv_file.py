"""Owns a list of offline payments as a CSV file (RFC 4180): one record a row, columns by the names in its header.

Refuses to give out a part of it: every row is checked, and either all records are there or every error is, with its row
and column. Rows are counted as a spreadsheet shows them, the header being the first.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paymesh.payments.events.types import OfflineRecorded
from paymesh.payments.offline.record import FIELDS, REQUIRED, Teller, make_record

MAX_BYTES = 64 << 20
MAX_ROWS = 100_000
MAX_ERRORS = 1_000
"""Then the rest is not looked at: the file is another one than was meant."""
HEADER_ROW = 1
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class CellError:
    """`column` is its name in the header; empty where it is the whole row's."""

    row: int
    column: str
    what: str


@dataclass(frozen=True, slots=True)
class Row:
    """A record, and the row in which it stands."""

    number: int
    record: OfflineRecorded


def read_csv(data: bytes, teller: Teller) -> Sequence[Row] | tuple[CellError, ...]:
    """Every record, or every error. A byte order mark, as spreadsheets write it, is passed over."""
    if len(data) > MAX_BYTES:
        return (CellError(HEADER_ROW, "", f"the file is longer than {MAX_BYTES} bytes"),)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return (CellError(data.count(b"\n", 0, error.start) + 1, "", "is not UTF-8"),)
    rows = _rows(text)
    header = next(rows, [])
    if isinstance(header, CellError):
        return (header,)
    errors = [CellError(HEADER_ROW, column, what) for column, what in _wrong_header(header)]
    return tuple(errors) if errors else _records(rows, header, teller)


def _rows(text: str) -> Iterator[list[str] | CellError]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    number = 0
    while True:
        number += 1
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            # What follows would be read out of step.
            yield CellError(number, "", "is not CSV: a quote that does not end or stands within a cell, or a huge cell")
            return


def _wrong_header(header: list[str]) -> Iterator[tuple[str, str]]:
    if not header:
        yield "", "there is no header"
        return
    for column in FIELDS:
        if header.count(column) > 1:
            yield column, "stands in the header twice"
        if column in REQUIRED and column not in header:
            yield column, "is missing in the header"
    for number, column in enumerate(header, 1):
        if column not in FIELDS:
            yield f"column {number}", f"is none of {', '.join(FIELDS)}"


def _records(
    rows: Iterator[list[str] | CellError], header: list[str], teller: Teller
) -> Sequence[Row] | tuple[CellError, ...]:
    found: list[Row] = []
    errors: list[CellError] = []
    by_reference: dict[str, Row] = {}
    for number, cells in enumerate(rows, HEADER_ROW + 1):
        if number > MAX_ROWS + HEADER_ROW:
            errors.append(CellError(number, "", f"there are more than {MAX_ROWS} rows"))
        if len(errors) >= MAX_ERRORS:
            errors.append(CellError(number, "", "the rest is not looked at"))
        if isinstance(cells, CellError):
            errors.append(cells)
        if isinstance(cells, CellError) or number > MAX_ROWS + HEADER_ROW or len(errors) >= MAX_ERRORS:
            break
        if not cells:
            continue  # an empty line, as some programs end a file
        made = _record(number, cells, header, teller)
        if isinstance(made, Row):
            first = by_reference.setdefault(made.record.reference, made)
            if first is not made:
                made = [CellError(number, "reference", f"stands in row {first.number}, too")]
        if isinstance(made, Row):
            found.append(made)
        else:
            errors += made
    return tuple(errors) if errors else found


def _record(number: int, cells: list[str], header: list[str], teller: Teller) -> Row | list[CellError]:
    if len(cells) != len(header):
        return [CellError(number, "", f"has {len(cells)} cells, the header {len(header)}")]
    values: dict[str, object] = {column: cell for column, cell in zip(header, cells, strict=True) if cell}
    amount = values.get("amount")
    if isinstance(amount, str) and _DIGITS.fullmatch(amount):
        values["amount"] = int(amount)
    made = make_record(values, teller)
    if isinstance(made, tuple):
        return [CellError(number, one.field, one.what) for one in made]
    return Row(number, made)
