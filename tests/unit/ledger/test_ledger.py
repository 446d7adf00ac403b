"""The ledger as a process: its endpoints, health, metrics, TLS, drain; and what it refuses to start with."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from prometheus_client import CollectorRegistry

from paymesh.ledger.app import OfflinePayments, build_app
from paymesh.ledger.life import RUNNER_OPTIONS
from paymesh.payments.denial import Unavailable
from paymesh.payments.events.log import START
from paymesh.payments.events.sqlite_log import SqliteLog
from paymesh.payments.events.types import OfflineRecorded

REPOSITORY = Path(__file__).resolve().parents[3]
PATH = "/v1/offline-payments"
MERCHANT = {"x-pay-merchant": "shop", "content-type": "application/json", "x-request-id": "r-1"}
WITHIN_S = 20.0


@dataclass
class Ledger:
    process: subprocess.Popen[str]
    url: str
    metrics: str
    events: Path


def payment(reference: str) -> bytes:
    amount = {"total": 100, "currency": "CNY"}
    told = {"reference": reference, "amount": amount, "method": "cash", "paid_at": "2026-03-01T12:30:00Z"}
    return json.dumps(told).encode()


Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run() -> Iterator[Run]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "paymesh.ledger", *arguments]
        process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def ledger(run: Run, tmp_path: Path) -> Ledger:
    events = tmp_path / "events.sqlite"
    process = run("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--events", f"sqlite:{events}")
    metrics = said(process, "metrics")["address"]
    return Ledger(process, f"http://{said(process, 'started')['address']}", f"http://{metrics}/metrics", events)


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WITHIN_S)) as opened:
        yield opened


def said(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """The next line of its log that tells of an event."""
    assert process.stderr is not None
    for line in process.stderr:
        told: dict[str, Any] = json.loads(line)
        if told.get("event") == event:
            return told
    raise AssertionError(f"it ended without saying {event}")


async def test_it_is_healthy_counts_and_logs_no_values(ledger: Ledger, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{ledger.url}/healthz") as answer:
        assert answer.status == 200
    statuses = []
    for body in (payment("R-1"), payment("R-1"), b"{", payment("R-1").replace(b"100", b"101")):
        async with session.post(ledger.url + PATH, data=body, headers=MERCHANT) as answer:
            statuses.append(answer.status)
            assert answer.headers["x-pay-request-id"] == "r-1"
            assert answer.headers.get("x-pay-reason") == (None if answer.ok else (await answer.json())["code"])
    assert statuses == [201, 200, 400, 409]
    async with session.get(ledger.metrics) as answer:
        text = await answer.text()
    for name in ("created", "repeated", "body_malformed", "conflict"):
        assert f'paymesh_offline_payments_total{{answer="{name}"}} 1.0' in text
    assert "paymesh_events_up 1.0" in text
    told = said(ledger.process, "offline_payment")
    assert (told["merchant"], told["answer"], told["request_id"]) == ("shop", "created", "r-1")
    assert "R-1" not in json.dumps(told)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("POST", PATH, {"content-type": "application/json"}, 503, "unavailable"),
        ("POST", PATH, [*MERCHANT.items(), ("x-pay-merchant", "other")], 503, "unavailable"),
        ("GET", f"{PATH}/R-1", {}, 503, "unavailable"),
        ("GET", f"{PATH}/R-1", MERCHANT, 404, "reference_unknown"),
        ("GET", f"{PATH}/a.b", MERCHANT, 404, "reference_unknown"),
        ("PUT", PATH, MERCHANT, 405, "method_unknown"),
        ("GET", "/elsewhere", MERCHANT, 404, "route_unknown"),
        ("POST", PATH, {**MERCHANT, "content-type": "text/plain"}, 415, "content_unsupported"),
        ("POST", PATH, {**MERCHANT, "content-type": "application/json; charset=gbk"}, 415, "content_unsupported"),
        ("POST", PATH, {**MERCHANT, "content-encoding": "br"}, 415, "content_unsupported"),
        ("POST", PATH, {**MERCHANT, "content-encoding": "gzip"}, 415, "content_unsupported"),
    ],
)
async def test_what_it_refuses_it_says_in_one_shape(
    tmp_path: Path, method: str, path: str, headers: Any, status: int, code: str
) -> None:
    async with serving(SqliteLog(tmp_path / "events.sqlite")) as (url, session):
        body = payment("R-1") if method == "POST" else None
        async with session.request(method, url + path, data=body, headers=headers) as answer:
            found = await answer.json()
            assert (answer.status, found["code"], answer.headers["x-pay-reason"]) == (status, code, code)
            assert found.keys() == {"code", "message"}


async def test_a_body_too_large_is_refused(tmp_path: Path) -> None:
    async with (
        serving(SqliteLog(tmp_path / "events.sqlite")) as (url, session),
        session.post(url + PATH, data=b"{" + b" " * 20_000 + b"}", headers=MERCHANT) as answer,
    ):
        assert (answer.status, (await answer.json())["code"]) == (413, "body_too_large")


class _Failing(SqliteLog):
    """A log whose fault is chosen."""

    fault: Exception = Unavailable("events: away")

    async def record(self, event: OfflineRecorded) -> OfflineRecorded | None:
        raise self.fault


@pytest.mark.parametrize("fault", [Unavailable("events: away"), ValueError("a bug that tells 6222021234567890128")])
async def test_what_could_not_be_recorded_is_unavailable(
    tmp_path: Path, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    log = _Failing(tmp_path / "events.sqlite")
    log.fault = fault
    async with (
        serving(log) as (url, session),
        session.post(url + PATH, data=payment("R-1"), headers=MERCHANT) as answer,
    ):
        assert (answer.status, (await answer.json())["code"]) == (503, "unavailable")
    assert "6222" not in "".join(str(vars(record)) for record in caplog.records)


class _Slow(SqliteLog):
    async def record(self, event: OfflineRecorded) -> OfflineRecorded | None:
        await asyncio.sleep(0.2)
        return await super().record(event)


async def test_whoever_hangs_up_stops_nothing(tmp_path: Path) -> None:
    log = _Slow(tmp_path / "events.sqlite")
    async with serving(log, handler_cancellation=True) as (url, session):
        with pytest.raises(TimeoutError):
            await session.post(
                url + PATH, data=payment("R-1"), headers=MERCHANT, timeout=aiohttp.ClientTimeout(total=0.1)
            )
        async with asyncio.timeout(WITHIN_S):
            while await log.recorded("shop", "R-1") is None:
                await asyncio.sleep(0.02)


async def test_sigterm_drains(ledger: Ledger, session: aiohttp.ClientSession) -> None:
    slow = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        told = payment("R-slow")
        yield told[:20]
        await slow.wait()
        yield told[20:]

    async with session.get(f"{ledger.url}/healthz") as answer:
        assert answer.status == 200
    sending = asyncio.create_task(session.post(ledger.url + PATH, data=body(), headers=MERCHANT))
    await asyncio.sleep(0.2)
    ledger.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(said, ledger.process, "draining")
    async with session.get(f"{ledger.url}/healthz") as answer:
        assert (answer.status, answer.headers["connection"]) == (503, "close")
    slow.set()
    async with await sending as answer:
        assert (answer.status, answer.headers["connection"]) == (201, "close")
    assert await asyncio.to_thread(ledger.process.wait, WITHIN_S) == 0
    log = SqliteLog(ledger.events)
    assert [one.event.id for one in await log.read(START)] == ["offline:shop:R-slow"]
    await log.close()


def test_what_it_cannot_start_with_is_named(run: Run, tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        process = run(*arguments)
        _, text = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 2, text
        return text

    events = ("--events", f"sqlite:{tmp_path / 'events.sqlite'}")
    assert "nowhere to record" in refused("--listen", "127.0.0.1:0", "--events", "none")
    assert "--events URL is missing" in refused("--listen", "127.0.0.1:0")
    assert "not HOST:PORT" in refused("--listen", "9003", *events)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"cannot listen on {address}" in refused("--listen", address, *events)
    (tmp_path / "no.pem").write_text("no")
    pem = str(tmp_path / "no.pem")
    assert "TLS: " in refused("--listen", "127.0.0.1:0", "--tls-cert", pem, "--tls-key", pem, *events)


async def test_it_speaks_tls(run: Run, tmp_path: Path, demo_keys: Path, session: aiohttp.ClientSession) -> None:
    certificate, key = demo_keys / "alipay_platform.crt", demo_keys / "alipay_platform.pem"
    process = run(
        "--listen", "127.0.0.1:0", "--events", f"sqlite:{tmp_path / 'events.sqlite'}",
        "--tls-cert", str(certificate), "--tls-key", str(key),
    )  # fmt: skip
    address = (await asyncio.to_thread(said, process, "started"))["address"]
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with session.get(f"https://{address}/healthz", ssl=trusting) as answer:
        assert answer.status == 200


class serving:  # noqa: N801 - read as a verb
    """The application in this process, on a log."""

    def __init__(self, log: SqliteLog, **options: bool) -> None:
        self._log, self._options = log, {**RUNNER_OPTIONS, **options}

    async def __aenter__(self) -> tuple[str, aiohttp.ClientSession]:
        await self._log.prepare()
        payments = OfflinePayments(self._log, lambda: 1_790_000_000_000_000, CollectorRegistry())
        self._runner = web.AppRunner(build_app(payments, asyncio.Event()), **self._options)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._session = aiohttp.ClientSession()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}", self._session

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._runner.cleanup()
        await self._log.close()
