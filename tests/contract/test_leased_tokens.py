"""Tokens taken ahead: hardly a request asks shared state, and what is admitted stays inside the documented bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from paymesh.payments.limits.demands import Demand, Instant, LimitStore, Taken, Tokens
from paymesh.payments.limits.in_process import InProcessLimits
from paymesh.payments.limits.leases import LEASE_S, LeasedTokens
from paymesh.payments.policy.callers import TokenRate

SECOND = 1_000_000_000
HUNDRED = TokenRate(100, 1, 100)


class Counting(InProcessLimits):
    """Counts the calls that would be round trips; each lets others go before it, as a network does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def take(self, demands: Sequence[Demand], request_id: str, now: Instant) -> Taken:
        self.calls += 1
        await asyncio.sleep(0)
        return await super().take(demands, request_id, now)


def tokens(value: str, batch: int = 10, rate: TokenRate = HUNDRED, name: str = "limit") -> Tokens:
    return Tokens(key=(name, value), rate=rate, batch=batch)


def at(seconds: float) -> Instant:
    return Instant(round(seconds * SECOND), int(seconds))


async def test_a_batch_saves_the_round_trips_of_the_others() -> None:
    shared = Counting()
    leased = LeasedTokens(shared)
    for _ in range(100):
        assert (await leased.take([tokens("m")], "r", at(0))).admitted
    assert shared.calls == 10
    assert not (await leased.take([tokens("m")], "r", at(0))).admitted


async def test_only_one_batch_is_under_way() -> None:
    shared = Counting()
    leased = LeasedTokens(shared)
    await asyncio.gather(*(leased.take([tokens("m")], "r", at(0)) for _ in range(20)))
    (used,) = await shared.look([tokens("m")], at(0))
    assert used.used == 19 + 10


async def test_a_refusal_by_another_limit_takes_nothing_from_a_lease() -> None:
    shared = Counting()
    leased = LeasedTokens(shared)
    narrow = tokens("m", 1, TokenRate(1, 1, 1), "narrow")
    assert (await leased.take([tokens("m"), narrow], "r", at(0))).admitted
    for _ in range(50):
        assert not (await leased.take([tokens("m"), narrow], "r", at(0))).admitted
    calls = shared.calls
    for _ in range(9):
        assert (await leased.take([tokens("m")], "r", at(0))).admitted
    assert shared.calls == calls


async def test_a_lease_ends() -> None:
    shared = Counting()
    leased = LeasedTokens(shared)
    await leased.take([tokens("m")], "r", at(0))
    await leased.take([tokens("m")], "r", at(LEASE_S))
    assert shared.calls == 2


@pytest.mark.parametrize("batch", [1, 5, 20])
async def test_workers_admit_at_most_the_bound_and_lose_nothing_under_load(
    limits: LimitStore, unique: str, batch: int
) -> None:
    workers = [LeasedTokens(limits) for _ in range(4)]
    rate = TokenRate(200, 1, 20)
    one = Tokens(key=("limit", unique), rate=rate, batch=batch)
    admitted = 0
    began = time.monotonic()

    async def ask(worker: LeasedTokens) -> None:
        nonlocal admitted
        while time.monotonic() - began < 2:
            taken = await worker.take([one], "r", Instant(time.monotonic_ns(), int(time.time())))
            admitted += taken.admitted
            await asyncio.sleep(0.002)

    await asyncio.gather(*(ask(worker) for worker in workers))
    elapsed = time.monotonic() - began
    assert admitted <= rate.burst + rate.tokens * elapsed + len(workers) * (batch if batch > 1 else 0) + 1
    # A machine too busy to ask often enough admits less: what matters is that leases do not eat the limit.
    assert admitted >= rate.tokens * 1
