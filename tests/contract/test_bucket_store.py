"""What every BucketStore promises, whoever's clock it goes by."""

from __future__ import annotations

import asyncio
import time

import pytest

from paymesh.payments.policy.callers import BucketSize
from paymesh.payments.token_bucket import Bucket, BucketStore

SLOW, BURST = BucketSize(1, 5), 5


def bucket(value: str, name: str = "limit", size: BucketSize = SLOW, *, enforced: bool = True) -> Bucket:
    return Bucket((name, value), size, enforced=enforced)


async def admitted(buckets: BucketStore, *wanted: Bucket, times: int = 1) -> list[bool]:
    return [(await buckets.take(wanted, time.monotonic_ns())).admitted for _ in range(times)]


async def test_a_new_bucket_holds_its_burst(buckets: BucketStore, unique: str) -> None:
    # One token comes back each second: this test is given a bucket whose next is far away.
    assert await admitted(buckets, bucket(unique, size=BucketSize(1, 3)), times=3) == [True] * 3
    taken = await buckets.take([bucket(unique, size=BucketSize(1, 3))], time.monotonic_ns())
    if taken.refused is not None:  # else the machine slept for a second
        assert taken.refused.bucket.key == ("limit", unique)
        assert taken.refused.retry_after_s == 1


async def test_of_hundreds_at_once_the_burst_passes(buckets: BucketStore, unique: str) -> None:
    began = time.monotonic()
    passed = await asyncio.gather(*(admitted(buckets, bucket(unique)) for _ in range(300)))
    assert BURST <= passed.count([True]) <= BURST + time.monotonic() - began + 1


async def test_it_fills_at_its_rate(buckets: BucketStore, unique: str) -> None:
    fast = bucket(unique, size=BucketSize(50, 10))
    began, passed = time.monotonic(), 0
    while time.monotonic() - began < 1:
        passed += (await buckets.take([fast], time.monotonic_ns())).admitted
        await asyncio.sleep(0.001)
    assert passed <= 10 + 50 * (time.monotonic() - began) + 1
    assert passed >= 30  # a busy machine asks less often; every token that was there is handed out


async def test_a_refusal_takes_nothing_from_the_others(buckets: BucketStore, unique: str) -> None:
    wide, narrow = bucket(unique), bucket(unique + "x", "narrow", BucketSize(1, 1))
    assert await admitted(buckets, wide, narrow) == [True]
    for _ in range(20):
        refused = (await buckets.take([wide, narrow], time.monotonic_ns())).refused
        if refused is None:
            pytest.skip("the machine slept for a second")
        assert refused.bucket is narrow
    assert await admitted(buckets, wide, times=BURST - 1) == [True] * (BURST - 1)


async def test_a_shadow_tells_and_does_not_refuse(buckets: BucketStore, unique: str) -> None:
    shadow, wide = bucket(unique, "shadow", BucketSize(1, 1), enforced=False), bucket(unique, "wide")
    first = await buckets.take([shadow, wide], time.monotonic_ns())
    second = await buckets.take([shadow, wide], time.monotonic_ns())
    assert (first.admitted, first.shadowed) == (True, ())
    assert (second.admitted, second.shadowed) == (True, (shadow,))
    # The other bucket was asked both times.
    assert await admitted(buckets, wide, times=BURST - 2) == [True] * (BURST - 2)


async def test_a_size_that_changes_keeps_what_was_used(buckets: BucketStore, unique: str) -> None:
    assert await admitted(buckets, bucket(unique), times=BURST) == [True] * BURST
    larger = bucket(unique, size=BucketSize(1, 100))
    assert not all(await admitted(buckets, larger, times=20)), "a policy's reload must not fill a bucket"


@pytest.mark.parametrize("text", ["", "支付", "\x00\r\n", "{}", "\udcff", "x" * 10_000])
async def test_any_text_is_a_value(buckets: BucketStore, unique: str, text: str) -> None:
    assert await admitted(buckets, bucket(unique + text, size=BucketSize(1, 1))) == [True]
    assert await admitted(buckets, bucket(unique + text + ".", size=BucketSize(1, 1))) == [True]


async def test_values_are_told_apart(buckets: BucketStore, unique: str) -> None:
    one = BucketSize(1, 1)
    for values in [("a", "bc"), ("ab", "c"), ("a", "b", "c"), ("abc",)]:
        assert (await buckets.take([Bucket(("limit", unique, *values), one)], time.monotonic_ns())).admitted
