"""What every ChannelHealthStore promises; and that in process and shared judge alike, over any sequence of reports."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paymesh.payments.channels.guard import ChannelGuard
from paymesh.payments.channels.health import (
    ChannelHealthStore,
    Counts,
    InProcessChannelHealth,
    Place,
    Seen,
    Standing,
)
from paymesh.payments.denial import Unavailable
from paymesh.payments.policy.channel_rules import Elimination, Watch
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_channel_health import RedisChannelHealth
from tests.contract.conftest import PATIENT_S
from tests.contract.valkey_process import ValkeyProcess

SECOND = 1_000_000_000
RATE = Watch(60, 1)
STREAK = Watch(60, 20, Elimination(failures=3, failure_rate=None, pause_s=10, probe_successes=4))
SHARE = Watch(60, 10, Elimination(failures=None, failure_rate=2000, pause_s=10, probe_successes=4))


@pytest.fixture
def health(shared_state: SharedState | None) -> ChannelHealthStore:
    return InProcessChannelHealth() if shared_state is None else RedisChannelHealth(shared_state, clock_of_caller=True)


def seen(text: str) -> Seen:
    """Payments in their order: `w` worked, `f` failed."""
    return Seen(text.count("w"), text.count("f"), len(text) - len(text.rstrip("f")))


async def standings(store: ChannelHealthStore, channel: str, watch: Watch, *reports: tuple[int, str]) -> list[Standing]:
    """After each report: at which second, what was seen."""
    return [await store.report(channel, watch, seen(text), at_s * SECOND) for at_s, text in reports]


async def places(store: ChannelHealthStore, channel: str, watch: Watch, *reports: tuple[int, str]) -> list[Place]:
    return [standing.place for standing in await standings(store, channel, watch, *reports)]


async def test_outcomes_are_counted_for_a_window_and_for_ten(health: ChannelHealthStore, unique: str) -> None:
    found = await standings(
        health, unique, RATE, (600, "ww"), (609, "f"), (610, "w"), (659, ""), (660, ""), (670, ""), (1190, ""),
        (1199, "w"), (1200, ""),
    )  # fmt: skip
    assert [(one.recent, one.lately) for one in found] == [
        ((2, 0), (2, 0)),
        ((2, 1), (2, 1)),
        ((3, 1), (3, 1)),
        ((3, 1), (3, 1)),
        ((1, 0), (3, 1)),
        ((0, 0), (3, 1)),
        ((0, 0), (3, 1)),
        ((1, 0), (4, 1)),
        ((1, 0), (2, 0)),
    ]
    assert {one.place for one in found} == {Place.IN}


async def test_a_channel_is_out_after_failures_in_a_row(health: ChannelHealthStore, unique: str) -> None:
    found = await places(health, unique, STREAK, (100, "ff"), (101, "wff"), (102, "f"), (105, ""), (111, ""), (112, ""))
    assert found == [Place.IN, Place.IN, Place.PAUSED, Place.PAUSED, Place.PAUSED, Place.PROBED]


async def test_a_channel_is_out_when_too_large_a_share_fails(health: ChannelHealthStore, unique: str) -> None:
    found = await places(health, unique, SHARE, (100, "wwwwfww"), (101, "ff"), (102, "w"), (103, ""))
    assert found == [Place.IN, Place.IN, Place.PAUSED, Place.PAUSED]
    exactly = await places(health, unique + "x", SHARE, (100, "wwwwfwwwwf"), (101, ""))
    assert exactly == [Place.IN, Place.IN], "more than the share, not as much"


async def test_probes_that_work_bring_it_back_and_its_counts_begin_anew(
    health: ChannelHealthStore, unique: str
) -> None:
    found = await standings(
        health, unique, SHARE, (100, "ffffffffff"), (105, "wwww"), (110, "w"), (111, "w"), (112, "ww"), (113, "w")
    )
    assert [one.place for one in found] == [
        Place.PAUSED, Place.PAUSED, Place.PROBED, Place.PROBED, Place.IN, Place.IN,
    ]  # fmt: skip
    assert found[-1] == Standing(Counts(1, 0), Counts(1, 0), Place.IN, None)


async def test_a_probe_that_fails_begins_the_pause_again(health: ChannelHealthStore, unique: str) -> None:
    found = await places(
        health, unique, STREAK, (100, "fff"), (110, "www"), (111, "f"), (120, "wwww"), (121, "www"), (122, "w")
    )
    assert found == [Place.PAUSED, Place.PROBED, Place.PAUSED, Place.PAUSED, Place.PROBED, Place.IN]


async def test_a_clock_that_is_set_back_neither_keeps_a_channel_out_nor_counts_what_is_to_come(
    health: ChannelHealthStore, unique: str
) -> None:
    found = await standings(health, unique, STREAK, (5000, "fff"), (100, ""), (109, ""), (110, "wwww"), (111, ""))
    assert [one.place for one in found] == [Place.PAUSED, Place.PAUSED, Place.PAUSED, Place.IN, Place.IN]
    assert found[1].lately == (0, 0)


async def test_channels_and_watches_are_apart(health: ChannelHealthStore, unique: str) -> None:
    assert await places(health, unique, STREAK, (100, "fff")) == [Place.PAUSED]
    assert await places(health, unique + "x", STREAK, (100, "w")) == [Place.IN]
    (other,) = await standings(health, unique, RATE, (100, "w"))
    assert other == Standing(Counts(1, 0), Counts(1, 0), Place.IN, 10_000)


async def test_a_rate_needs_samples_and_looks_back_for_them(health: ChannelHealthStore, unique: str) -> None:
    watch = Watch(60, 4)
    found = await standings(
        health, unique, watch, (600, "www"), (601, "f"), (660, "www"), (661, "www"), (720, "f"), (1200, ""), (1300, "")
    )
    assert [one.rate for one in found] == [None, 7500, 8571, 10_000, 8181, 8571, None]


REPORTS = st.lists(
    st.tuples(st.sampled_from([-7, 0, 1, 3, 4, 10, 11, 30, 60, 61, 700]), st.text("wf", max_size=6)), max_size=25
)
ELIMINATIONS = st.none() | st.builds(
    Elimination,
    st.none() | st.integers(1, 4),
    st.none() | st.sampled_from([0, 2500, 10_000]),
    st.sampled_from([1, 10, 90]),
    st.integers(1, 5),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(reports=REPORTS, window_s=st.sampled_from([5, 7, 60]), min_samples=st.integers(1, 8), elimination=ELIMINATIONS)
def test_shared_and_in_process_say_the_same(
    valkey: ValkeyProcess,
    reports: list[tuple[int, str]],
    window_s: int,
    min_samples: int,
    elimination: Elimination | None,
) -> None:
    async def both() -> None:
        state = SharedState(valkey.url, timeout_s=PATIENT_S)
        stores: tuple[ChannelHealthStore, ...] = (
            InProcessChannelHealth(),
            RedisChannelHealth(state, clock_of_caller=True),
        )
        watch = Watch(window_s, min_samples, elimination)
        channel, at_s = uuid.uuid4().hex, 1_790_000_000
        try:
            for gap_s, text in reports:
                at_s += gap_s
                said = {await one.report(channel, watch, seen(text), at_s * SECOND) for one in stores}
                assert len(said) == 1
                standing = said.pop()
                assert standing.recent.total <= standing.lately.total
        finally:
            await state.close()

    asyncio.run(both())


async def test_workers_that_see_nothing_hear_it_from_the_one_that_does(valkey: ValkeyProcess, unique: str) -> None:
    state = SharedState(valkey.url, timeout_s=PATIENT_S)
    watched = {unique: (STREAK, RATE)}
    guards = [ChannelGuard(RedisChannelHealth(state), lambda: watched) for _ in range(2)]
    try:
        for _ in range(3):
            guards[0].observe(unique, worked=False)
        for guard in guards:
            await guard.exchange()
        assert guards[1].standings(STREAK)[unique].place is Place.PAUSED
        assert guards[1].standings(RATE)[unique] == Standing(Counts(0, 3), Counts(0, 3), Place.IN, 0)
    finally:
        await state.close()


async def test_what_is_seen_between_two_exchanges_is_told_once_and_in_order() -> None:
    store, watched = InProcessChannelHealth(), {"a": (STREAK,)}
    guard = ChannelGuard(store, lambda: watched, clock_ns=lambda: 100 * SECOND)
    for worked in (False, False, True, False, False):
        guard.observe("a", worked=worked)
    guard.observe("never watched", worked=False)
    await guard.exchange()
    assert guard.standings(STREAK)["a"] == Standing(Counts(1, 4), Counts(1, 4), Place.IN, None), "not three in a row"
    await guard.exchange()
    assert guard.standings(STREAK)["a"].recent == (1, 4)
    guard.observe("a", worked=False)
    await guard.exchange()
    assert guard.standings(STREAK)["a"].place is Place.PAUSED


async def test_a_channel_that_the_policy_watches_no_more_is_forgotten() -> None:
    watched: Mapping[str, tuple[Watch, ...]] = {"a": (RATE, STREAK), "b": (RATE,)}
    guard = ChannelGuard(InProcessChannelHealth(), lambda: watched)
    await guard.exchange()
    assert [sorted(guard.standings(watch)) for watch in (RATE, STREAK)] == [["a", "b"], ["a"]]
    watched = {"b": (RATE,)}
    await guard.exchange()
    assert list(guard.standings(RATE)) == ["b"]
    assert guard.standings(STREAK) == {}


async def test_without_the_store_all_stands_as_it_did(caplog: pytest.LogCaptureFixture) -> None:
    class HalfAway(InProcessChannelHealth):
        """As a cluster with one shard away."""

        away = False

        async def report(self, channel: str, watch: Watch, seen: Seen, now_ns: int) -> Standing:
            if self.away and channel == "a":
                raise Unavailable("shared state: no answer")
            return await super().report(channel, watch, seen, now_ns)

    store = HalfAway()
    guard = ChannelGuard(store, lambda: {"a": (STREAK,), "b": (STREAK,)}, clock_ns=lambda: 100 * SECOND)
    for _ in range(3):
        guard.observe("a", worked=False)
    await guard.exchange()
    assert caplog.text.count("a channel is out") == 1
    store.away = True
    for _ in range(2):
        guard.observe("b", worked=False)
        await guard.exchange()
    assert guard.standings(STREAK)["a"].place is Place.PAUSED
    assert guard.standings(STREAK)["b"].recent == (0, 2)
    assert caplog.text.count("channel health not shared") == 1, "an outage is logged once"
