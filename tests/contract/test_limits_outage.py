"""Limits while their store is dead, frozen or restarted empty: each does what its `on_error` says, in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paymesh.payments.bucket_fallback import BucketsWithFallback
from paymesh.payments.denial import Unavailable
from paymesh.payments.policy.callers import BucketSize
from paymesh.payments.policy.rate_limits import OnError
from paymesh.payments.shared_state.breaker import BreakerState
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_buckets import RedisBuckets
from paymesh.payments.token_bucket import Bucket
from tests.contract.test_shared_state_topologies import until_closed
from tests.contract.valkey_process import ValkeyProcess, running_valkey

SIZE = BucketSize(1, 3)


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyProcess]:
    with running_valkey(tmp_path) as process:
        yield process


def bucket(on_error: OnError, *, enforced: bool = True) -> Bucket:
    return Bucket((str(on_error), "m"), SIZE, on_error, enforced)


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_each_limit_does_what_it_says_and_comes_back(own_valkey: ValkeyProcess, how: str) -> None:
    state = SharedState(own_valkey.url, timeout_s=0.2, pause_s=0.05)
    limits = BucketsWithFallback(RedisBuckets(state))
    try:
        assert await state.start()
        local = bucket(OnError.LOCAL)
        assert (await limits.take([local], time.monotonic_ns())).without_store == ()
        getattr(own_valkey, how)()
        now_ns = time.monotonic_ns()
        for expected in [True, True, True, False]:  # a bucket of its own, full at first, at one moment
            taken = await limits.take([local], now_ns)
            assert (taken.admitted, taken.without_store) == (expected, (local,))
        for _ in range(10):
            assert (await limits.take([bucket(OnError.ALLOW)], now_ns)).admitted
            assert (await limits.take([bucket(OnError.DENY, enforced=False)], now_ns)).admitted
        with pytest.raises(Unavailable):
            await limits.take([bucket(OnError.ALLOW), bucket(OnError.DENY)], now_ns)
        own_valkey.start() if how == "kill" else own_valkey.thaw()
        await until_closed(state)
        assert state.state is BreakerState.CLOSED
        # A frozen server carries out what it was sent, so that the old buckets may have given tokens to nobody.
        fresh = [Bucket((str(one), "another"), SIZE, one) for one in OnError]
        back = await limits.take(fresh, time.monotonic_ns())
        assert (back.admitted, back.without_store) == (True, ())
    finally:
        await state.close()
