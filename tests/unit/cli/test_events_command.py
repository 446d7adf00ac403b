"""`paymesh payments` and `paymesh events` as an operator and a consumer use them, on a log in a file."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from paymesh.cli.main import main
from paymesh.payments.events import consumer
from paymesh.payments.events.sqlite_log import SqliteLog
from paymesh.payments.events.types import Attempted, Ended, Result, ToldBy
from paymesh.payments.policy.compiled import Operation

HOUR_US = 3_600_000_000


def now_us() -> int:
    return time.time_ns() // 1000


def attempt(number: int, ends_in_us: int = HOUR_US) -> Attempted:
    return Attempted(
        attempt_id=f"id-{number}", at_us=now_us(), merchant="shop", route="payments", operation=Operation.PAY,
        protocol="paymesh", order_no=f"ORDER-{number}", amount=1000, currency="CNY", channel="card", service="card",
        ends_by_us=now_us() + ends_in_us,
    )  # fmt: skip


@pytest.fixture
def events(tmp_path: Path) -> str:
    """Four attempts: ended, running, overdue, unknown."""

    async def write() -> None:
        log = SqliteLog(tmp_path / "events.sqlite")
        await log.prepare()
        for one in (attempt(1), attempt(2), attempt(3, -1), attempt(4)):
            await log.attempt(one)
        for number, result in ((1, Result.SUCCEEDED), (4, Result.UNKNOWN)):
            await log.end(
                Ended(
                    attempt_id=f"id-{number}", at_us=now_us(), operation=Operation.PAY, result=result,
                    told_by=ToldBy.ACCESS_LOG,
                )
            )  # fmt: skip
        await log.close()

    asyncio.run(write())
    return f"sqlite:{tmp_path / 'events.sqlite'}"


def test_what_is_not_certain_is_listed_and_overdue_is_an_exit_code(
    events: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["payments", "unresolved", "--events", events]) == 1
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["BEGAN", "ATTEMPT", "MERCHANT", "ORDER", "OPERATION", "AMOUNT", "CHANNEL", "STATE"]
    assert {(row[2], row[-1]) for row in rows[1:]} == {("id-2", "running"), ("id-3", "overdue"), ("id-4", "unknown")}
    assert main(["payments", "unresolved", "--events", events, "-o", "json"]) == 1
    assert {one["attempt_id"] for one in json.loads(capsys.readouterr().out)} == {"id-2", "id-3", "id-4"}


def test_an_end_by_hand_is_kept_with_who_and_why(events: str, capsys: pytest.CaptureFixture[str]) -> None:
    end = ["payments", "end", "shop", "ORDER-4", "id-4"]
    who = ["--reason", "the bank's portal", "--actor", "ann", "--events", events]
    assert main([*end, "succeeded", *who]) == 0
    assert capsys.readouterr().out == "id-4: unknown -> succeeded\n"
    assert main([*end, "refused", *who]) == 2
    assert capsys.readouterr().err == "it has ended already: succeeded\n"
    assert main(["payments", "end", "shop", "ORDER-1", "id-4", "refused", *who]) == 2
    assert capsys.readouterr().err == "no attempt id-4 of order ORDER-1 by shop\n"
    assert main(["payments", "show", "shop", "ORDER-4", "--events", events]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-1] == "succeeded"
    assert main(["events", "read", "--events", events]) == 0
    assert '"told_by":"operator","why":"ann: the bank\'s portal"' in capsys.readouterr().out.splitlines()[-1]


def test_what_is_not_there_is_said(events: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["payments", "show", "shop", "NONE", "--events", events]) == 2
    assert capsys.readouterr().err == "no attempt of order NONE by shop\n"
    assert main(["payments", "unresolved", "--events", f"sqlite:{tmp_path / 'none'}"]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'none'}: no such event log (--events names another)\n"
    assert main(["payments", "unresolved", "--events", "mysql://x"]) == 2
    assert capsys.readouterr().err == "--events: none of sqlite:FILE, postgresql://HOST/DATABASE and valkey://HOST\n"


class Billing:
    """A consumer that fails as it is told, and remembers what it took."""

    def __init__(self) -> None:
        self.took: list[str] = []
        self.fails: dict[str, int] = {}
        billing = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["content-length"])))
                name = event["id"]
                assert self.headers["idempotency-key"] == f'"{name}"'
                status = 200
                if billing.fails.get(name, 0) > 0:
                    billing.fails[name] -= 1
                    status = 500
                else:
                    billing.took.append(name)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/events"


@pytest.fixture
def billing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Billing]:
    monkeypatch.setattr(consumer, "PAUSES_S", (0.0, 0.0))
    made = Billing()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


ALL = ["id-1:attempted", "id-2:attempted", "id-3:attempted", "id-4:attempted", "id-1:ended", "id-4:unknown"]


def test_a_consumer_is_given_everything_in_order_and_again_on_demand(
    events: str, billing: Billing, capsys: pytest.CaptureFixture[str]
) -> None:
    send = ["events", "deliver", "billing", "--to", billing.url, "--once", "--events", events]
    billing.fails["id-2:attempted"] = 1
    assert main(send) == 0
    assert main(send) == 0
    assert billing.took == ALL
    assert capsys.readouterr().out == "6 taken, 0 set aside\n"
    assert main(["events", "replay", "billing", "--after", "4", "--events", events]) == 0
    assert capsys.readouterr().out == "billing: was at 6, goes on after 4\n"
    assert main(send) == 0
    assert billing.took == [*ALL, *ALL[4:]]
    with pytest.raises(SystemExit, match="2"):
        main(["events", "replay", "billing", "--after", "yesterday", "--events", events])


def test_what_a_consumer_cannot_take_is_set_aside_seen_and_retried(
    events: str, billing: Billing, capsys: pytest.CaptureFixture[str]
) -> None:
    billing.fails["id-3:attempted"] = 100
    assert main(["events", "deliver", "billing", "--to", billing.url, "--once", "--events", events]) == 1
    assert billing.took == [one for one in ALL if one != "id-3:attempted"], "what stands behind it goes on"
    assert main(["events", "dead", "billing", "--events", events]) == 1
    assert "\tanswered 500\t" in capsys.readouterr().out
    again = ["events", "retry-dead", "billing", "--to", billing.url, "--events", events]
    assert main(again) == 1
    billing.fails.clear()
    assert main(again) == 0
    assert billing.took[-1] == "id-3:attempted"
    assert main(["events", "dead", "billing", "--events", events]) == 0


def test_a_consumer_that_is_away_is_said(events: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "PAUSES_S", ())
    assert main(["events", "deliver", "g", "--to", "http://127.0.0.1:1/", "--once", "--events", events]) == 1
