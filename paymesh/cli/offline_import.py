"""Owns `paymesh payments import`: a merchant's list of offline payments, by an operator.

Refuses to record a part of a list that has an error: every row is checked, also against what is recorded, before the
first one is. Importing the same file again records nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paymesh.cli.change_arguments import logged_in
from paymesh.cli.event_log import add_event_log, with_event_log
from paymesh.cli.table import print_table
from paymesh.payments.events.log import EventLog
from paymesh.payments.events.types import OfflineRecorded, ToldBy
from paymesh.payments.offline.csv_file import CellError, Row, read_csv
from paymesh.payments.offline.record import FIELDS, REQUIRED, Teller

_TOGETHER = 500
_TAKEN = "was recorded before with other content"


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a row's record is to the log: `new`, `repeated` or `conflict`."""

    row: Row
    state: str


def add_import_parser(acts: Any) -> None:
    columns = ", ".join(name if name in REQUIRED else f"[{name}]" for name in FIELDS)
    parser: argparse.ArgumentParser = acts.add_parser(
        "import",
        help="record a merchant's offline payments from a CSV file: all of its rows or none",
        description=f"Columns, by the names in the header: {columns}. Amounts in minor units, times with an offset. "
        "Exit code 1: the file has errors, nothing was recorded; 2: it or the log cannot be used: import it again, "
        "what is there already is passed over.",
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--merchant", required=True, help="whose payments these are: its id in the policy")
    parser.add_argument("--actor", default=logged_in(), help="who imports, kept with each; default: the user logged in")
    parser.add_argument("--dry-run", action="store_true", help="check everything, record nothing")
    add_event_log(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        data = args.file.read_bytes()
    except OSError as error:
        print(f"{args.file}: {error.strerror or type(error).__name__}", file=sys.stderr)
        return 2
    if not args.merchant or ":" in args.merchant:
        print("--merchant: no merchant's id", file=sys.stderr)
        return 2
    found = read_csv(data, Teller(args.merchant, time.time_ns() // 1000, ToldBy.OPERATOR, args.actor))
    if isinstance(found, tuple):
        return _refuse(found)
    return with_event_log(args.events, lambda log: _import(log, found, dry_run=args.dry_run))


async def _import(log: EventLog, rows: Sequence[Row], *, dry_run: bool) -> int:
    await log.prepare()  # it may be the first thing that a new database is given
    checked = [_standing(row, await log.recorded(row.record.merchant, row.record.reference)) for row in rows]
    if _conflicts(checked):
        return _refuse(_conflicts(checked))
    if not dry_run:
        # Somebody may have recorded one of them meanwhile: the log decides.
        checked = [
            one
            for start in range(0, len(checked), _TOGETHER)
            for one in await _record(log, checked[start : start + _TOGETHER])
        ]
    counts = Counter(one.state for one in checked)
    done = "would be recorded" if dry_run else "recorded"
    print(f"{counts['new']} {done}, {counts['repeated']} there already")
    return _refuse(_conflicts(checked), "Recorded by somebody else in the meantime") if _conflicts(checked) else 0


async def _record(log: EventLog, checked: Sequence[_Standing]) -> Sequence[_Standing]:
    """Together: they share a commit."""

    async def one(standing: _Standing) -> _Standing:
        if standing.state != "new":
            return standing
        return _standing(standing.row, await log.record(standing.row.record))

    return await asyncio.gather(*(one(standing) for standing in checked))


def _standing(row: Row, stands: OfflineRecorded | None) -> _Standing:
    if stands is None:
        return _Standing(row, "new")
    return _Standing(row, "repeated" if stands.says_the_same(row.record) else "conflict")


def _conflicts(checked: Sequence[_Standing]) -> tuple[CellError, ...]:
    return tuple(CellError(one.row.number, "reference", _TAKEN) for one in checked if one.state == "conflict")


def _refuse(errors: Sequence[CellError], heading: str = "Nothing was recorded") -> int:
    print_table([("ROW", "COLUMN", "ERROR"), *((str(one.row), one.column or "-", one.what) for one in errors)])
    print(f"{heading}: {len(errors)} error(s)", file=sys.stderr)
    return 1
