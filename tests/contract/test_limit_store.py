"""What every LimitStore promises, whoever's clock it goes by."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from paymesh.payments.denial import Unavailable
from paymesh.payments.limits.demands import Demand, Instant, LimitStore, Quota, Slot, Taken, Tokens
from paymesh.payments.policy.callers import TokenRate
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_limits import RedisLimits

BURST = 5
SLOW = TokenRate(1, 60, BURST)
"""The next token is a minute away."""


def now() -> Instant:
    return Instant(time.monotonic_ns(), int(time.time()))


def tokens(value: str, name: str = "limit", rate: TokenRate = SLOW, **more: bool | int) -> Tokens:
    return Tokens(key=(name, value), rate=rate, **more)  # type: ignore[arg-type]


def slot(value: str, most: int = 2, lease_s: int = 60, name: str = "at-once", *, enforced: bool = True) -> Slot:
    return Slot(key=(name, value), max=most, lease_s=lease_s, enforced=enforced)


def quota(value: str, most: int, cost: int = 1, name: str = "a-day") -> Quota:
    return Quota(key=(name, value), max=most, cost=cost)


async def take(limits: LimitStore, *wanted: Demand, request_id: str = "") -> Taken:
    return await limits.take(wanted, request_id or uuid.uuid4().hex, now())


async def admitted(limits: LimitStore, *wanted: Demand, times: int = 1) -> list[bool]:
    return [(await take(limits, *wanted)).admitted for _ in range(times)]


async def used(limits: LimitStore, *wanted: Demand) -> list[int]:
    return [one.used for one in await limits.look(wanted, now())]


# -- tokens --------------------------------------------------------------------------------------------------------


async def test_a_new_bucket_holds_its_burst(limits: LimitStore, unique: str) -> None:
    assert await admitted(limits, tokens(unique), times=BURST) == [True] * BURST
    taken = await take(limits, tokens(unique))
    assert taken.refused is not None
    assert taken.refused.demand.key == ("limit", unique)
    assert 55 <= taken.refused.retry_after_s <= 60


async def test_of_hundreds_at_once_the_burst_passes(limits: LimitStore, unique: str) -> None:
    passed = await asyncio.gather(*(admitted(limits, tokens(unique)) for _ in range(300)))
    assert passed.count([True]) == BURST


async def test_it_fills_at_its_rate(limits: LimitStore, unique: str) -> None:
    fast = tokens(unique, rate=TokenRate(50, 1, 10))
    began, passed = time.monotonic(), 0
    while time.monotonic() - began < 1:
        passed += (await take(limits, fast)).admitted
        await asyncio.sleep(0.001)
    assert passed <= 10 + 50 * (time.monotonic() - began) + 1
    assert passed >= 30  # a busy machine asks less often; every token that was there is handed out


async def test_a_refusal_takes_nothing_from_the_others(limits: LimitStore, unique: str) -> None:
    wide, narrow = tokens(unique), tokens(unique + "x", "narrow", TokenRate(1, 60, 1))
    held, daily = slot(unique, 50), quota(unique, 50)
    assert await admitted(limits, wide, narrow, held, daily) == [True]
    for _ in range(20):
        refused = (await take(limits, wide, narrow, held, daily)).refused
        assert refused is not None
        assert refused.demand is narrow
    assert await used(limits, wide, held, daily) == [1, 1, 1]
    assert await admitted(limits, wide, times=BURST - 1) == [True] * (BURST - 1)


async def test_a_shadow_tells_and_does_not_refuse(limits: LimitStore, unique: str) -> None:
    wide = tokens(unique, "wide")
    shadows = (
        tokens(unique, "shadow", TokenRate(1, 60, 1), enforced=False),
        slot(unique, 1, enforced=False),
        Quota(key=("a-day", unique), max=1, enforced=False),
    )
    first = await take(limits, *shadows, wide)
    second = await take(limits, *shadows, wide)
    assert (first.admitted, first.shadowed) == (True, ())
    assert (second.admitted, second.shadowed) == (True, shadows)
    assert second.held == ()
    assert await used(limits, *shadows, wide) == [1, 1, 1, 2]


async def test_a_size_that_changes_keeps_what_was_used(limits: LimitStore, unique: str) -> None:
    assert await admitted(limits, tokens(unique), times=BURST) == [True] * BURST
    larger = tokens(unique, rate=TokenRate(1, 60, 100))
    assert not any(await admitted(limits, larger, times=20)), "a policy's reload must not fill a bucket"


async def test_windows_of_one_limit_count_apart_and_all_have_to_hold(limits: LimitStore, unique: str) -> None:
    minute, hour = tokens(unique), tokens(unique, rate=TokenRate(3, 3600, 3))
    assert await admitted(limits, minute, hour, times=4) == [True, True, True, False]
    assert await used(limits, minute, hour) == [3, 3]


async def test_refused_ones_count_where_that_is_said(limits: LimitStore, unique: str) -> None:
    strict = tokens(unique, rate=TokenRate(1, 60, 2), count_refused=True)
    assert await admitted(limits, strict, times=2) == [True, True]
    waits = [taken.refused.retry_after_s for _ in range(4) if (taken := await take(limits, strict)).refused is not None]
    # One token each down to a burst below empty: one, then two, then three tokens are missing, and no more.
    assert [round(wait / 60) for wait in waits] == [1, 2, 3, 3]


async def test_a_refusal_may_count_in_another_bucket_than_the_one_that_refused(limits: LimitStore, unique: str) -> None:
    counting, narrow = (
        tokens(unique, "counting", count_refused=True),
        tokens(unique + "x", "narrow", TokenRate(1, 60, 1)),
    )
    assert await admitted(limits, counting, narrow, times=3) == [True, False, False]
    assert await used(limits, counting, narrow) == [3, 1]


async def test_a_batch_is_what_is_there_and_a_cost_is_all_or_nothing(limits: LimitStore, unique: str) -> None:
    first = await take(limits, tokens(unique, batch=3))
    assert first.granted == {(("limit", unique), 60): 3}
    second = await take(limits, tokens(unique, batch=3))
    assert second.granted == {(("limit", unique), 60): 2}
    assert not (await take(limits, tokens(unique, batch=3))).admitted
    assert await admitted(limits, tokens(unique + "y", cost=BURST + 1)) == [False]
    assert await admitted(limits, tokens(unique + "y", cost=BURST)) == [True]


# -- slots -----------------------------------------------------------------------------------------------------------


async def test_no_more_than_max_are_held_and_an_end_frees_one(limits: LimitStore, unique: str) -> None:
    one = await take(limits, slot(unique), request_id=unique + "1")
    assert await admitted(limits, slot(unique), times=3) == [True, False, False]
    for _ in range(2):  # told twice
        await limits.end(unique + "1", one.held, carried_out=True, now=now())
    assert await used(limits, slot(unique)) == [1]
    assert await admitted(limits, slot(unique), times=2) == [True, False]


async def test_of_hundreds_at_once_max_hold_a_slot(limits: LimitStore, unique: str) -> None:
    passed = await asyncio.gather(*(admitted(limits, slot(unique, 7)) for _ in range(200)))
    assert passed.count([True]) == 7


async def test_an_end_that_does_not_know_what_is_held_frees_it(limits: LimitStore, unique: str) -> None:
    await take(
        limits, slot(unique), slot(unique + "b", name="other"), tokens(unique), quota(unique, 9), request_id=unique
    )
    await limits.end(unique, None, carried_out=False, now=now())
    asked = (slot(unique), slot(unique + "b", name="other"), quota(unique, 9))
    assert await used(limits, *asked) == [0, 0, 0]


async def test_what_comes_after_its_own_end_takes_nothing(limits: LimitStore, unique: str) -> None:
    await limits.end(unique, None, carried_out=False, now=now())
    taken = await take(limits, slot(unique), slot(unique + "b"), quota(unique, 9), request_id=unique)
    assert taken.held == ()
    assert await used(limits, slot(unique), slot(unique + "b"), quota(unique, 9)) == [0, 0, 0]
    assert await admitted(limits, slot(unique, 1)) == [True]


async def test_a_slot_is_free_again_when_its_lease_ends(limits: LimitStore, unique: str) -> None:
    assert await admitted(limits, slot(unique, 1, lease_s=1), times=2) == [True, False]
    async with asyncio.timeout(20):
        while not all(await admitted(limits, slot(unique, 1, lease_s=60))):
            await asyncio.sleep(0.05)
    assert await used(limits, slot(unique, 1)) == [1]


# -- quotas ----------------------------------------------------------------------------------------------------------


async def test_a_quota_is_spent_exactly(limits: LimitStore, unique: str) -> None:
    assert await admitted(limits, quota(unique, 10_000, 9_999)) == [True]
    taken = await take(limits, quota(unique, 10_000, 2))
    assert taken.refused is not None
    assert 1 <= taken.refused.retry_after_s <= 86_400
    assert await admitted(limits, quota(unique, 10_000, 1)) == [True]
    assert await used(limits, quota(unique, 10_000)) == [10_000]


@pytest.mark.parametrize("known", [True, False])
async def test_what_was_not_carried_out_comes_back_once(limits: LimitStore, unique: str, known: bool) -> None:
    await take(limits, quota(unique, 100, 40))
    second = await take(limits, quota(unique, 100, 50), request_id=unique)
    for _ in range(3):
        await limits.end(unique, second.held if known else None, carried_out=False, now=now())
    assert await used(limits, quota(unique, 100)) == [40]


async def test_what_was_carried_out_stays_spent(limits: LimitStore, unique: str) -> None:
    taken = await take(limits, quota(unique, 100, 50), request_id=unique)
    await limits.end(unique, taken.held, carried_out=True, now=now())
    await limits.end(unique, taken.held, carried_out=False, now=now())
    assert await used(limits, quota(unique, 100)) == [50]


async def test_days_begin_where_they_are_said_to(limits: LimitStore, unique: str) -> None:
    """Wherever midnight is, one of these two begins another day within the next twelve hours."""

    def at(begins_s: int) -> Quota:
        return Quota(key=("a-day", unique + str(begins_s)), max=0, day_begins_s=begins_s)

    waits = [await limits.take([at(begins)], unique, now()) for begins in (0, 12 * 3600)]
    seconds = [taken.refused.retry_after_s for taken in waits if taken.refused is not None]
    assert len(seconds) == 2
    assert abs(abs(seconds[0] - seconds[1]) - 12 * 3600) <= 5


# -- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "支付", "\x00\r\n", "{}", "\udcff", "x" * 10_000])
async def test_any_text_is_a_value(limits: LimitStore, unique: str, text: str) -> None:
    one = TokenRate(1, 60, 1)
    assert await admitted(limits, tokens(unique + text, rate=one), slot(unique + text), quota(unique + text, 1)) == [
        True
    ]
    assert await admitted(limits, tokens(unique + text + ".", rate=one)) == [True]


async def test_values_are_told_apart(limits: LimitStore, unique: str) -> None:
    for values in [("a", "bc"), ("ab", "c"), ("a", "b", "c"), ("abc",)]:
        key = ("limit", unique, *values)
        wanted: Sequence[Demand] = [Tokens(key=key, rate=TokenRate(1, 60, 1)), Slot(key=key, max=1, lease_s=60)]
        assert (await limits.take(wanted, uuid.uuid4().hex, now())).admitted


class Failing(SharedState):
    """Fails every second call, after the first of them was carried out."""

    calls = 0

    async def run(self, *script: Any) -> Any:
        self.calls += 1
        if self.calls % 2 == 0:
            raise Unavailable("cut off")
        return await super().run(*script)


async def test_an_end_that_is_cut_off_in_the_middle_can_be_told_again(
    limits: LimitStore, shared_state: SharedState | None, unique: str
) -> None:
    if shared_state is None:
        return  # nothing can be cut off in process
    wanted = (slot(unique), quota(unique, 9))
    await take(limits, *wanted, request_id=unique)
    cut_off = Failing.__new__(Failing)
    cut_off.__dict__ = shared_state.__dict__
    with pytest.raises(Unavailable):
        await RedisLimits(cut_off).end(unique, None, carried_out=False, now=now())
    await limits.end(unique, None, carried_out=False, now=now())
    used_slots, used_quota = await used(limits, *wanted)
    assert used_slots == 0
    # On a cluster a quota whose return was cut off stays spent: never twice given back.
    assert used_quota == 0 or shared_state.is_cluster
