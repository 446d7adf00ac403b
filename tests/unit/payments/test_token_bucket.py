"""The token bucket at its edges. That it equals an exact one: tests/contract/test_bucket_model.py."""

from __future__ import annotations

from paymesh.payments.policy.callers import BucketSize
from paymesh.payments.token_bucket import Bucket, InProcessBuckets, judge

SECOND = 1_000_000_000


def bucket(rate: int, burst: int, key: str = "m") -> Bucket:
    return Bucket(("limit", key), BucketSize(rate, burst))


async def test_a_full_bucket_holds_its_burst_and_refills_at_its_rate() -> None:
    store, one = InProcessBuckets(), bucket(2, 3)
    now = 77 * SECOND
    assert [(await store.take([one], now)).admitted for _ in range(4)] == [True, True, True, False]
    assert (await store.take([one], now + SECOND // 2)).admitted
    assert not (await store.take([one], now + SECOND // 2)).admitted
    # However long it rests, it holds no more than its burst.
    assert [(await store.take([one], now + 3600 * SECOND)).admitted for _ in range(4)] == [True, True, True, False]


async def test_retry_after_is_when_one_request_fits() -> None:
    store, one = InProcessBuckets(), bucket(1, 1)
    assert (await store.take([one], 0)).admitted
    refused = (await store.take([one], 1)).refused
    assert refused is not None
    assert refused.retry_after_s == 1
    assert (await store.take([one], refused.retry_after_s * SECOND)).admitted


async def test_callers_of_a_day_do_not_pile_up() -> None:
    store, now = InProcessBuckets(), 0
    for number in range(100_000):
        now += SECOND // 1000
        assert (await store.take([bucket(1, 2, str(number))], now)).admitted
    assert len(store) < 25_000
    # Nobody who is not full again was forgotten.
    assert (await store.take([bucket(1, 2, "99999")], now)).admitted
    assert not (await store.take([bucket(1, 2, "99999")], now)).admitted


def test_the_longest_wait_is_told() -> None:
    short, long, shadow = bucket(1, 1, "a"), bucket(1, 1, "b"), Bucket(("limit", "c"), BucketSize(1, 1), enforced=False)
    refused = judge([short, long, shadow], [1, 3, 9]).refused
    assert refused is not None
    assert (refused.bucket, refused.retry_after_s) == (long, 3)
    assert judge([shadow], [9]).shadowed == (shadow,)
