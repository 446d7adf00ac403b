"""`paymesh payments import`: all of a list or none of it, again and again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from paymesh.cli.main import main
from paymesh.payments.events.sqlite_log import SqliteLog

HEADER = "reference,amount,currency,method,paid_at,note\n"
GOOD = HEADER + (
    "R-1,8800,CNY,cash,2026-03-01T12:30:00+08:00,\nR-2,100,CNY,card_terminal,2026-03-01T12:31:00+08:00,三号桌\n"
)
PAN = "6222021234567890128"
Import = Callable[..., int]


@pytest.fixture
def url(tmp_path: Path) -> str:
    async def make() -> None:
        log = SqliteLog(tmp_path / "events.sqlite")
        await log.prepare()
        await log.close()

    asyncio.run(make())
    return f"sqlite:{tmp_path / 'events.sqlite'}"


@pytest.fixture
def importing(tmp_path: Path, url: str) -> Import:
    def run(text: str, *more: str) -> int:
        file = tmp_path / "list.csv"
        file.write_text(text, encoding="utf-8")
        return main(
            ["payments", "import", str(file), "--merchant", "teahouse", "--events", url, "--actor", "li", *more]
        )

    return run


def events(url: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["events", "read", "--events", url]) == 0
    return [json.loads(line.partition("\t")[2]) for line in capsys.readouterr().out.splitlines()]


def test_a_list_is_recorded_once(importing: Import, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert importing(GOOD, "--dry-run") == 0
    assert capsys.readouterr().out == "2 would be recorded, 0 there already\n"
    assert events(url, capsys) == []
    assert importing(GOOD) == 0
    assert capsys.readouterr().out == "2 recorded, 0 there already\n"
    told = events(url, capsys)
    assert [one["type"] for one in told] == ["OfflineRecorded", "OfflineRecorded"]
    assert told[0]["data"] == {
        "merchant": "teahouse", "reference": "R-1", "at_us": told[0]["data"]["at_us"], "amount": 8800,  # type: ignore[index]
        "currency": "CNY", "method": "cash", "paid_at_s": 1772339400, "order_no": None, "store": None, "terminal": None,
        "note": None, "told_by": "operator", "actor": "li",
    }  # fmt: skip
    more = GOOD + "R-3,1,CNY,other,2026-03-01T12:30:00Z,\n"
    assert importing(more) == 0
    assert capsys.readouterr().out == "1 recorded, 2 there already\n"
    assert len(events(url, capsys)) == 3


def test_of_a_list_with_an_error_nothing_is_recorded(
    importing: Import, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        importing(GOOD + f"R-3,1.50,CNY,cash,2026-03-01T12:30:00Z,{PAN}\nR-1,1,CNY,cash,2026-03-01T12:30:00Z,\n") == 1
    )
    said = capsys.readouterr()
    rows = [line.split(maxsplit=2)[:2] for line in said.out.splitlines()]
    assert rows == [["ROW", "COLUMN"], ["4", "amount"], ["4", "note"], ["5", "reference"]]
    assert said.err == "Nothing was recorded: 3 error(s)\n"
    assert PAN not in said.out
    assert events(url, capsys) == []


def test_what_was_recorded_with_other_content_is_found_before_anything_is_recorded(
    importing: Import, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert importing(GOOD) == 0
    changed = HEADER + "R-9,5,CNY,cash,2026-03-01T12:30:00Z,\nR-2,101,CNY,card_terminal,2026-03-01T12:31:00+08:00,\n"
    for more in ((), ("--dry-run",)):
        capsys.readouterr()
        assert importing(changed, *more) == 1
        assert "3    reference  was recorded before with other content" in capsys.readouterr().out
    assert len(events(url, capsys)) == 2


def test_what_cannot_be_used_is_said(
    tmp_path: Path, importing: Import, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["payments", "import", str(tmp_path / "nowhere.csv"), "--events"]
    assert main([*base, url, "--merchant", "teahouse"]) == 2
    assert "nowhere.csv: No such file" in capsys.readouterr().err
    assert importing(GOOD, "--merchant", "a:b") == 2
    assert importing(GOOD, "--events", f"sqlite:{tmp_path / 'other.sqlite'}") == 2
    assert "no such event log" in capsys.readouterr().err
