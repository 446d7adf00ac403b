"""Owns one measurement: what the durable attempt costs a payment, and events a second, by event log.

    python -m bench.events

One process, one event loop, real servers beside it that write to the same disk. A payment is an attempt and its end,
each waited for. "bare commit" is a file that is written and synced (`fsync`) by the same number of workers' turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from paymesh.payments.events.log import EventLog
from paymesh.payments.events.open_log import open_log
from paymesh.payments.events.types import Attempted, Ended, Result, ToldBy
from paymesh.payments.policy.compiled import Operation
from tests.contract.valkey_process import running_valkey
from tests.unit.payments.merchant_table.postgres_process import running_postgres

PATIENT_S = 30.0
AT_ONCE = (1, 16, 64)
_NUMBERS = itertools.count()


def main() -> int:
    """Print a line for each log and concurrency."""
    parser = argparse.ArgumentParser(prog="bench.events", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="a line (default: %(default)s)")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"{'log':14}{'at once':>8}{'events/s':>10}{'attempt p50 ms':>16}{'p99 ms':>9}{'end p50 ms':>12}{'p99 ms':>9}")
    asyncio.run(_measure(args.seconds))
    return 0


async def _measure(seconds: float) -> None:
    # Beside this file's tree: a temporary folder may be in memory, where a commit costs nothing.
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        running_valkey(Path(folder), "appendonly yes", "appendfsync always") as valkey,
        running_postgres(durable=True) as postgres,
    ):
        synced = Path(folder) / "synced"
        for at_once in AT_ONCE:
            await _line("bare fsync", at_once, seconds, _syncing(synced))
            for name, url in (
                ("sqlite", f"sqlite:{folder}/events.sqlite"),
                ("postgresql", postgres.url),
                ("valkey", valkey.url),
            ):
                async with _opened(url) as log:
                    await _line(name, at_once, seconds, _paying(log))


@contextlib.asynccontextmanager
async def _opened(url: str) -> AsyncIterator[EventLog]:
    log = open_log(url, PATIENT_S)
    await log.prepare()
    try:
        yield log
    finally:
        await log.close()


def _paying(log: EventLog) -> Callable[[], Awaitable[tuple[float, ...]]]:
    async def pay() -> tuple[float, ...]:
        number = next(_NUMBERS)
        attempt = Attempted(
            attempt_id=f"{os.getpid()}-{number}", at_us=time.time_ns() // 1000, merchant="shop", route="payments",
            operation=Operation.PAY, protocol="paymesh", order_no=f"{os.getpid()}-{number}", amount=1000,
            currency="CNY", channel="card", service="card", ends_by_us=time.time_ns() // 1000 + 40_000_000,
        )  # fmt: skip
        ended = Ended(
            attempt_id=attempt.attempt_id, at_us=attempt.at_us, operation=Operation.PAY, result=Result.SUCCEEDED,
            told_by=ToldBy.ANSWER,
        )  # fmt: skip
        began = time.perf_counter()
        await log.attempt(attempt)
        between = time.perf_counter()
        await log.end(ended)
        return between - began, time.perf_counter() - between

    return pay


def _syncing(path: Path) -> Callable[[], Awaitable[tuple[float, ...]]]:
    file = path.open("ab")

    def sync() -> None:
        file.write(b"x" * 400)
        file.flush()
        os.fsync(file.fileno())

    async def write() -> tuple[float, ...]:
        began = time.perf_counter()
        await asyncio.to_thread(sync)
        return (time.perf_counter() - began,)

    return write


async def _line(name: str, at_once: int, seconds: float, act: Callable[[], Awaitable[tuple[float, ...]]]) -> None:
    until = time.perf_counter() + seconds
    took: list[tuple[float, ...]] = []

    async def worker() -> None:
        while time.perf_counter() < until:
            took.append(await act())

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    events = sum(len(one) for one in took) / (time.perf_counter() - began)
    cells = "".join(
        f"{statistics.median(times) * 1000:>{first}.2f}{statistics.quantiles(times, n=100)[98] * 1000:>9.2f}"
        for first, times in zip((16, 12), zip(*took, strict=True), strict=False)
    )
    print(f"{name:14}{at_once:>8}{events:>10.0f}{cells}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
