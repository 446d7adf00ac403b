"""Owns one measurement: decisions a second and their latency, by limits' backend, beside the bare store round trip.

    python -m bench.limits

One process, one event loop, a real Valkey beside it on the same machine. Every decision takes a token from three
buckets of one of a thousand callers; all are admitted. "held" takes a token, a slot and a daily quota, and tells the
end as well: two calls. "bare" is a GET by the same client.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from paymesh.payments.limits.demands import Demand, Instant, LimitStore, Quota, Slot, Tokens
from paymesh.payments.limits.fallback import LimitsWithFallback
from paymesh.payments.limits.in_process import InProcessLimits
from paymesh.payments.limits.leases import LeasedTokens
from paymesh.payments.policy.callers import TokenRate
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_limits import RedisLimits
from tests.contract.valkey_process import running_cluster, running_valkey

CALLERS, LIMITS = 1_000, 3
RATE = TokenRate(1_000_000, 1, 10_000_000)
BATCH = 100
PATIENT_S = 10.0


def main() -> int:
    """Print one line a backend and concurrency. Exit code 1: a decision was not an admission."""
    parser = argparse.ArgumentParser(prog="bench.limits", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="a line (default: %(default)s)")
    args = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; {LIMITS} limits a decision"
    )
    print(f"{'backend':28}{'at once':>8}{'a second':>12}{'p50 us':>10}{'p99 us':>10}{'CPU us':>10}")
    return asyncio.run(_measure(args.seconds))


async def _measure(seconds: int) -> int:
    with (
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as two,
        running_valkey(Path(one)) as server,
        running_cluster(Path(two)) as cluster,
    ):
        single = SharedState(server.url, timeout_s=PATIENT_S)
        sharded = SharedState(cluster.url.replace("redis", "redis+cluster"), timeout_s=PATIENT_S)
        ways: dict[str, Callable[[int], Awaitable[bool]]] = {
            "in process": _deciding(InProcessLimits()),
            "in process, held": _holding(InProcessLimits()),
            "bare round trip (Valkey)": _getting(single),
            "Valkey": _deciding(LimitsWithFallback(RedisLimits(single))),
            "Valkey, leased by 100": _deciding(LeasedTokens(LimitsWithFallback(RedisLimits(single))), BATCH),
            "Valkey, held and ended": _holding(LimitsWithFallback(RedisLimits(single))),
            "bare round trip (cluster)": _getting(sharded),
            "cluster": _deciding(LimitsWithFallback(RedisLimits(sharded))),
            "cluster, held and ended": _holding(LimitsWithFallback(RedisLimits(sharded))),
        }
        try:
            lines = [await _line(name, way, at_once, seconds) for name, way in ways.items() for at_once in (1, 16)]
        finally:
            await single.close()
            await sharded.close()
    return 0 if all(lines) else 1


def _deciding(store: LimitStore, batch: int = 1) -> Callable[[int], Awaitable[bool]]:
    async def decide(number: int) -> bool:
        caller = f"merchant-{number % CALLERS}"
        demands = [Tokens(key=(f"limit-{limit}", caller), rate=RATE, batch=batch) for limit in range(LIMITS)]
        taken = await store.take(demands, "", _now())
        return taken.admitted and not taken.without_store

    return decide


def _holding(store: LimitStore) -> Callable[[int], Awaitable[bool]]:
    """A token, a slot and a daily quota; then the request's end, which frees the slot."""

    async def decide_and_end(number: int) -> bool:
        caller, request_id = f"merchant-{number % CALLERS}", f"request-{number}"
        demands: list[Demand] = [
            Tokens(key=("limit", caller), rate=RATE),
            Slot(key=("at-once", caller), max=1_000, lease_s=25),
            Quota(key=("a-day", caller), max=10**12),
        ]
        taken = await store.take(demands, request_id, _now())
        await store.end(request_id, taken.held, carried_out=True, now=_now())
        return taken.admitted and not taken.without_store

    return decide_and_end


def _now() -> Instant:
    return Instant(time.monotonic_ns(), int(time.time()))


def _getting(state: SharedState) -> Callable[[int], Awaitable[bool]]:
    async def get(number: int) -> bool:
        return await state.call("GET", f"paymesh:bench:{number % CALLERS}") is None

    return get


async def _line(name: str, way: Callable[[int], Awaitable[bool]], at_once: int, seconds: int) -> bool:
    numbers, took, well = itertools.count(), list[int](), True
    ends = time.monotonic() + seconds

    async def caller() -> None:
        nonlocal well
        while time.monotonic() < ends:
            began = time.perf_counter_ns()
            well &= await way(next(numbers))
            took.append(time.perf_counter_ns() - began)

    began, used = time.monotonic(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(at_once)))
    elapsed, cpu = time.monotonic() - began, time.process_time() - used
    took.sort()
    p50, p99 = (took[len(took) * percent // 100] / 1000 for percent in (50, 99))
    print(f"{name:28}{at_once:8}{len(took) / elapsed:12.0f}{p50:10.0f}{p99:10.0f}{cpu / len(took) * 1e6:10.0f}")
    return well


if __name__ == "__main__":
    raise SystemExit(main())
