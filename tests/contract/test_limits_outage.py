"""Limits while their store is dead, frozen or restarted empty: each does what its `on_error` says, in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from paymesh.payments.denial import Unavailable
from paymesh.payments.limits.demands import Instant, Quota, Slot, Tokens
from paymesh.payments.limits.fallback import LimitsWithFallback
from paymesh.payments.policy.callers import TokenRate
from paymesh.payments.policy.rate_limits import OnError
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_limits import RedisLimits
from tests.contract.test_shared_state_topologies import until_closed
from tests.contract.valkey_process import ValkeyProcess, running_valkey


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyProcess]:
    with running_valkey(tmp_path) as process:
        yield process


def tokens(on_error: OnError, *, enforced: bool = True) -> Tokens:
    return Tokens(key=(str(on_error), "m"), rate=TokenRate(1, 1, 3), on_error=on_error, enforced=enforced)


def now() -> Instant:
    return Instant(time.monotonic_ns(), int(time.time()))


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_each_limit_does_what_it_says_and_comes_back(own_valkey: ValkeyProcess, how: str) -> None:
    state = SharedState(own_valkey.url, timeout_s=0.2, pause_s=0.05)
    limits = LimitsWithFallback(RedisLimits(state))
    try:
        assert await state.start()
        local = tokens(OnError.LOCAL)
        assert (await limits.take([local], "r", now())).without_store == ()
        getattr(own_valkey, how)()
        moment = now()
        for expected in [True, True, True, False]:  # a bucket of its own, full at first, at one moment
            taken = await limits.take([local], "r", moment)
            assert (taken.admitted, taken.without_store) == (expected, (local,))
        for _ in range(10):
            assert (await limits.take([tokens(OnError.ALLOW)], "r", moment)).admitted
            assert (await limits.take([tokens(OnError.DENY, enforced=False)], "r", moment)).admitted
        with pytest.raises(Unavailable):
            await limits.take([tokens(OnError.ALLOW), tokens(OnError.DENY)], "r", moment)
        own_valkey.start() if how == "kill" else own_valkey.thaw()
        await until_closed(state)
        # A frozen server carries out what it was sent, so that the old buckets may have given tokens to nobody.
        fresh = [replace(tokens(one), key=(str(one), "another")) for one in OnError]
        back = await limits.take(fresh, "r", now())
        assert (back.admitted, back.without_store) == (True, ())
    finally:
        await state.close()


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_slots_and_quotas_count_here_meanwhile(own_valkey: ValkeyProcess, how: str) -> None:
    state = SharedState(own_valkey.url, timeout_s=0.2, pause_s=0.05)
    limits = LimitsWithFallback(RedisLimits(state))
    slot, quota = Slot(key=("s", "m"), max=2, lease_s=60), Quota(key=("q", "m"), max=100, cost=10)
    try:
        assert await state.start()
        before = await limits.take([slot, quota], "before", now())
        getattr(own_valkey, how)()
        taken = [await limits.take([slot, quota], f"r{number}", now()) for number in range(3)]
        assert [one.admitted for one in taken] == [True, True, False]
        with pytest.raises(Unavailable):
            await limits.end("r0", taken[0].held, carried_out=False, now=now())
        assert (await limits.take([slot, quota], "r3", now())).admitted, "freed here although the store is away"
        own_valkey.start() if how == "kill" else own_valkey.thaw()
        await until_closed(state)
        for request_id in ("r0", "r1", "r3"):
            await limits.end(request_id, taken[0].held, carried_out=False, now=now())
        await limits.end("before", before.held, carried_out=True, now=now())
        # A frozen server may have carried out the calls that were cut off: their ends took that back.
        assert [one.used for one in await limits.look([slot, quota], now())] == [0, 10 if how == "freeze" else 0]
    finally:
        await state.close()
