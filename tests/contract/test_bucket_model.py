"""In-process and shared buckets admit exactly what an exact token bucket admits, over any sequence of calls."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from paymesh.payments.policy.callers import BucketSize
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_buckets import RedisBuckets
from paymesh.payments.token_bucket import Bucket, InProcessBuckets
from tests.contract.conftest import PATIENT_S
from tests.contract.valkey_process import ValkeyProcess

SECOND_US = 1_000_000
SIZES = st.builds(BucketSize, st.sampled_from([1, 3, 7, 999, 300_001, 1_000_000]), st.integers(1, 6))
GAPS_US = st.one_of(st.integers(0, 10), st.integers(0, 3 * SECOND_US), st.just(10**12))


@dataclass
class Exact:
    """Fractions of a token; one level a key, all refilled when time passes."""

    levels: dict[tuple[str, ...], tuple[Fraction, int]] = field(default_factory=dict)

    def take(self, buckets: list[Bucket], now_us: int) -> tuple[bool, set[tuple[str, ...]]]:
        """Whether the request is admitted, and the shadows that would have refused."""
        levels = {bucket.key: self._level(bucket, now_us) for bucket in buckets}
        lacking = {bucket.key for bucket in buckets if levels[bucket.key] < 1}
        if any(bucket.enforced and bucket.key in lacking for bucket in buckets):
            return False, {bucket.key for bucket in buckets if not bucket.enforced and bucket.key in lacking}
        for bucket in buckets:
            if bucket.key not in lacking:
                self.levels[bucket.key] = (levels[bucket.key] - 1, now_us)
        return True, lacking

    def _level(self, bucket: Bucket, now_us: int) -> Fraction:
        burst = Fraction(bucket.size.burst)
        level, at_us = self.levels.get(bucket.key, (burst, now_us))
        return min(burst, level + Fraction((now_us - at_us) * bucket.size.requests_per_second, SECOND_US))


class _AsTheModel(RuleBasedStateMachine):
    server: ValkeyProcess  # set by the test

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.state = self.runner.run(self._connected())
        self.stores = (InProcessBuckets(), RedisBuckets(self.state, clock_of_caller=True))
        self.model = Exact()
        self.caller = uuid.uuid4().hex
        self.now_us = 10 * SECOND_US

    async def _connected(self) -> SharedState:
        return SharedState(self.server.url, timeout_s=PATIENT_S)

    def teardown(self) -> None:
        self.runner.run(self.state.close())
        self.runner.close()

    @rule(
        gap_us=GAPS_US,
        wanted=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.tuples(SIZES, st.booleans()), min_size=1),
        times=st.integers(1, 4),
    )
    def take(self, gap_us: int, wanted: dict[str, tuple[BucketSize, bool]], times: int) -> None:
        self.now_us += gap_us
        buckets = [
            Bucket((name, self.caller), size, enforced=enforced) for name, (size, enforced) in sorted(wanted.items())
        ]
        for _ in range(times):
            expected = self.model.take(buckets, self.now_us)
            for store in self.stores:
                taken = self.runner.run(store.take(buckets, self.now_us * 1000))
                assert (taken.admitted, {bucket.key for bucket in taken.shadowed}) == expected, type(store)


def test_every_store_admits_what_an_exact_bucket_admits(valkey: ValkeyProcess) -> None:
    machine = type("Machine", (_AsTheModel,), {"server": valkey})
    bounds = settings(
        max_examples=100,
        stateful_step_count=12,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(machine, settings=bounds)


async def test_a_clock_that_was_set_back_neither_fills_nor_blocks(valkey: ValkeyProcess, unique: str) -> None:
    state = SharedState(valkey.url, timeout_s=PATIENT_S)
    try:
        store, one = RedisBuckets(state, clock_of_caller=True), Bucket(("limit", unique), BucketSize(1, 2))

        async def admitted(at_s: int) -> bool:
            return (await store.take([one], at_s * 1_000_000_000)).admitted

        assert [await admitted(at_s) for at_s in (1000, 1000, 1000)] == [True, True, False]
        assert [await admitted(at_s) for at_s in (500, 500, 501, 501)] == [False, False, True, False]
    finally:
        await state.close()
