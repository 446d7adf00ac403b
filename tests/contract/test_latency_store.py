"""What every LatencyStore promises; and that in process and shared judge alike, over any sequence of reports."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paymesh.payments.denial import Unavailable
from paymesh.payments.limits.latency import WHOLE, InProcessLatencies, LatencySettings, LatencyStore, next_share
from paymesh.payments.limits.latency_guard import FORGOTTEN_S, LatencyGuard
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_latencies import RedisLatencies
from tests.contract.conftest import PATIENT_S
from tests.contract.valkey_process import ValkeyProcess

SECOND = 1_000_000_000
SETTINGS = LatencySettings(300, window_s=5, min_samples=20, floor=1_000)


@pytest.fixture
def latencies(shared_state: SharedState | None) -> LatencyStore:
    return InProcessLatencies() if shared_state is None else RedisLatencies(shared_state, clock_of_caller=True)


async def shares(store: LatencyStore, key: str, *reports: tuple[int, int, int]) -> list[int]:
    """After each report: at which second, how many were over, how many there were."""
    return [await store.report(("limit", key), SETTINGS, over, total, at_s * SECOND) for at_s, over, total in reports]


async def test_a_slow_window_shrinks_and_quick_ones_grow_back(latencies: LatencyStore, unique: str) -> None:
    found = await shares(
        latencies, unique, (100, 0, 0), (101, 3, 30), (105, 0, 0), (110, 0, 50), (115, 0, 50), (120, 1, 20)
    )
    assert found == [10_000, 10_000, 8_000, 8_500, 9_000, 9_500]


async def test_it_is_judged_once_a_window_for_all_workers(latencies: LatencyStore, unique: str) -> None:
    found = await shares(latencies, unique, (100, 0, 0), (102, 20, 20), (105, 20, 20), (105, 0, 0), (106, 0, 0))
    assert found == [10_000, 10_000, 8_000, 8_000, 8_000]


async def test_five_percent_over_is_a_p95_at_the_bound_and_not_over_it(latencies: LatencyStore, unique: str) -> None:
    assert await shares(latencies, unique, (100, 0, 0), (105, 5, 100), (110, 6, 100)) == [10_000, 10_000, 8_000]


async def test_after_silence_it_has_grown_back_a_step_for_each_window(latencies: LatencyStore, unique: str) -> None:
    slow = [(100 + 5 * n, 50, 50) for n in range(8)]
    assert (await shares(latencies, unique, *slow))[-1] == 2_096
    assert await shares(latencies, unique, (194, 0, 0), (255, 0, 0)) == [2_596, 8_596]


async def test_a_clock_that_is_set_back_loses_nothing(latencies: LatencyStore, unique: str) -> None:
    found = await shares(latencies, unique, (100, 0, 0), (105, 50, 50), (50, 0, 0), (54, 0, 50), (55, 0, 0))
    assert found == [10_000, 8_000, 8_000, 8_000, 8_500]


async def test_keys_are_apart(latencies: LatencyStore, unique: str) -> None:
    assert await shares(latencies, unique, (100, 0, 0), (105, 50, 50)) == [10_000, 8_000]
    assert await shares(latencies, unique + "x", (100, 0, 0), (105, 0, 50)) == [10_000, 10_000]


REPORTS = st.lists(
    st.tuples(st.sampled_from([-7, 0, 1, 4, 5, 6, 59, 60, 61, 90]), st.integers(0, 30), st.integers(0, 60)), max_size=25
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(reports=REPORTS, floor=st.sampled_from([1, 1_000, WHOLE]), min_samples=st.sampled_from([0, 20]))
def test_shared_and_in_process_say_the_same(
    valkey: ValkeyProcess, reports: list[tuple[int, int, int]], floor: int, min_samples: int
) -> None:
    async def both() -> None:
        state = SharedState(valkey.url, timeout_s=PATIENT_S)
        stores: tuple[LatencyStore, ...] = (InProcessLatencies(), RedisLatencies(state, clock_of_caller=True))
        key, at_s = ("limit", uuid.uuid4().hex), 1_000
        bounds = LatencySettings(300, floor=floor, min_samples=min_samples)
        try:
            for gap_s, over, more in reports:
                at_s += gap_s
                said = {await one.report(key, bounds, over, over + more, at_s * SECOND) for one in stores}
                assert len(said) == 1
                assert floor <= said.pop() <= WHOLE
        finally:
            await state.close()

    asyncio.run(both())


def test_a_limit_never_shuts_for_good() -> None:
    share = WHOLE
    for _ in range(100):
        share = next_share(share, 100, 100, SETTINGS)
    assert share == SETTINGS.floor
    # A few slow ones are no reason to let more through, none at all are one to try.
    assert next_share(share, 3, 3, SETTINGS) == share
    windows = 0
    while share < WHOLE:
        share, windows = next_share(share, 0, 0, SETTINGS), windows + 1
    assert windows == 18


async def test_workers_that_hear_nothing_shrink_with_the_one_that_does(valkey: ValkeyProcess, unique: str) -> None:
    quick = LatencySettings(300, window_s=1, min_samples=5)
    state = SharedState(valkey.url, timeout_s=PATIENT_S)
    guards = [LatencyGuard(RedisLatencies(state)) for _ in range(2)]
    key = ("limit", unique)
    try:
        async with asyncio.timeout(20):
            while guards[1].share(key) == WHOLE:
                for _ in range(10):
                    guards[0].observe(key, quick, 301)
                guards[1].share_wanted(key, quick)
                for guard in guards:
                    await guard.exchange()
                await asyncio.sleep(0.05)
            while guards[1].share(key) < WHOLE:  # nothing is slow any more
                guards[1].share_wanted(key, quick)
                for guard in guards:
                    await guard.exchange()
                await asyncio.sleep(0.05)
    finally:
        await state.close()


async def test_without_the_store_the_last_share_stays() -> None:
    store = InProcessLatencies()
    guard, key = LatencyGuard(store), ("limit", "service")
    slow = LatencySettings(300, window_s=0, min_samples=1)
    guard.observe(key, slow, 500)
    await guard.exchange()
    assert guard.share(key) == 8_000
    state = SharedState("redis://127.0.0.1:1", timeout_s=0.05)
    try:
        guard._store = RedisLatencies(state)
        guard.observe(key, slow, 500)
        await guard.exchange()
        assert guard.share(key) == 8_000
        guard._store = store
        await guard.exchange()
        assert guard.share(key) == 8_500, "what was seen during the outage is old"
    finally:
        await state.close()


async def test_a_key_that_cannot_be_told_holds_back_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class HalfAway(InProcessLatencies):
        """As a cluster with one shard away."""

        async def report(
            self, key: tuple[str, str], settings: LatencySettings, over: int, total: int, now_ns: int
        ) -> int:
            if key[1] == "away":
                raise Unavailable("shared state: no answer")
            return await super().report(key, settings, over, total, now_ns)

    guard, slow = LatencyGuard(HalfAway()), LatencySettings(300, window_s=0, min_samples=1)
    for expected in (8_000, 6_400):
        guard.observe(("limit", "away"), slow, 500)
        guard.observe(("limit", "here"), slow, 500)
        await guard.exchange()
        assert (guard.share(("limit", "away")), guard.share(("limit", "here"))) == (WHOLE, expected)
    assert caplog.text.count("latencies not shared") == 1, "an outage is logged once"


async def test_a_key_that_is_not_used_is_forgotten_when_it_is_whole() -> None:
    now_ns = 0
    told: list[tuple[str, str]] = []

    class Told(InProcessLatencies):
        async def report(
            self, key: tuple[str, str], settings: LatencySettings, over: int, total: int, now_ns: int
        ) -> int:
            told.append(key)
            return await super().report(key, settings, over, total, now_ns)

    guard = LatencyGuard(Told(), clock_ns=lambda: now_ns)
    key = ("limit", "service")
    guard.observe(key, LatencySettings(300, window_s=FORGOTTEN_S // 2, min_samples=1), 500)
    now_ns = FORGOTTEN_S // 2 * SECOND
    await guard.exchange()
    now_ns = FORGOTTEN_S * SECOND
    await guard.exchange()
    now_ns += FORGOTTEN_S * SECOND
    await guard.exchange()
    assert guard.share(key) == WHOLE
    told.clear()
    await guard.exchange()
    assert told == []
