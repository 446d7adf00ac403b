"""In-process limits at their edges. That they equal an exact reference: tests/contract/test_limit_model.py."""

from __future__ import annotations

from paymesh.payments.limits.demands import Instant, Quota, Slot, Tokens, judge
from paymesh.payments.limits.in_process import DAY_S, InProcessLimits
from paymesh.payments.policy.callers import TokenRate

SECOND = 1_000_000_000


def tokens(rate: int, burst: int, key: str = "m", per_s: int = 1) -> Tokens:
    return Tokens(key=("limit", key), rate=TokenRate(rate, per_s, burst))


def at(now_ns: int) -> Instant:
    return Instant(now_ns, now_ns // SECOND)


async def test_a_full_bucket_holds_its_burst_and_refills_at_its_rate() -> None:
    store, one = InProcessLimits(), [tokens(2, 3)]
    now = 77 * SECOND
    assert [(await store.take(one, "r", at(now))).admitted for _ in range(4)] == [True, True, True, False]
    assert (await store.take(one, "r", at(now + SECOND // 2))).admitted
    assert not (await store.take(one, "r", at(now + SECOND // 2))).admitted
    # However long it rests, it holds no more than its burst.
    later = at(now + 3600 * SECOND)
    assert [(await store.take(one, "r", later)).admitted for _ in range(4)] == [True, True, True, False]


async def test_tokens_of_a_long_window_come_one_by_one() -> None:
    store, one = InProcessLimits(), [tokens(4, 1, per_s=60)]
    admitted = [second for second in range(60) if (await store.take(one, "r", at(second * SECOND))).admitted]
    assert admitted == [0, 15, 30, 45]


async def test_retry_after_is_when_one_request_fits() -> None:
    store, one = InProcessLimits(), [tokens(1, 1, per_s=7)]
    assert (await store.take(one, "r", at(0))).admitted
    refused = (await store.take(one, "r", at(1))).refused
    assert refused is not None
    assert refused.retry_after_s == 7
    assert (await store.take(one, "r", at(refused.retry_after_s * SECOND))).admitted


async def test_a_day_ends_at_its_own_midnight() -> None:
    store, east = InProcessLimits(), [Quota(key=("limit", "m"), max=1, day_begins_s=8 * 3600)]
    noon_utc = 20_000 * DAY_S + 12 * 3600
    assert (await store.take(east, "a", at(noon_utc * SECOND))).admitted
    refused = (await store.take(east, "b", at(noon_utc * SECOND))).refused
    assert refused is not None
    assert refused.retry_after_s == 4 * 3600
    assert (await store.take(east, "c", at((noon_utc + 4 * 3600) * SECOND))).admitted


async def test_callers_of_a_day_do_not_pile_up() -> None:
    store, now = InProcessLimits(), 0
    for number in range(100_000):
        now += SECOND // 1000
        wanted = [tokens(1, 2, str(number)), Slot(key=("s", str(number)), max=1, lease_s=1)]
        assert (await store.take(wanted, str(number), at(now))).admitted
    assert len(store) < 25_000
    # Nobody who is not full again was forgotten.
    assert (await store.take([tokens(1, 2, "99999")], "r", at(now))).admitted
    assert not (await store.take([tokens(1, 2, "99999")], "r", at(now))).admitted


def test_the_longest_wait_is_told() -> None:
    short, long = tokens(1, 1, "a"), tokens(1, 1, "b")
    shadow = Tokens(key=("limit", "c"), rate=TokenRate(1, 1, 1), enforced=False)
    refused, _ = judge([short, long, shadow], [1, 3, 9])
    assert refused is not None
    assert (refused.demand, refused.retry_after_s) == (long, 3)
    assert judge([shadow], [9]) == (None, (shadow,))
