"""The token bucket against an exact reference, and its edges."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.policy.callers import BucketSize
from paymesh.payments.token_bucket import Bucket, Exhausted, InProcessBuckets

SECOND = 1_000_000_000


def bucket(rate: int, burst: int, key: str = "m") -> Bucket:
    return Bucket(("limit", key), BucketSize(rate, burst))


async def test_a_full_bucket_holds_its_burst_and_refills_at_its_rate() -> None:
    store, one = InProcessBuckets(), bucket(2, 3)
    now = 77 * SECOND
    assert [await store.take([one], now) is None for _ in range(4)] == [True, True, True, False]
    assert await store.take([one], now + SECOND // 2) is None
    assert isinstance(await store.take([one], now + SECOND // 2), Exhausted)
    # However long it rests, it holds no more than its burst.
    assert [await store.take([one], now + 3600 * SECOND) is None for _ in range(4)] == [True, True, True, False]


async def test_retry_after_is_when_one_request_fits() -> None:
    store, one = InProcessBuckets(), bucket(1, 1)
    assert await store.take([one], 0) is None
    refused = await store.take([one], 1)
    assert refused is not None
    assert refused.retry_after_s == 1
    assert await store.take([one], refused.retry_after_s * SECOND) is None


async def test_a_refusal_takes_nothing_from_the_other_buckets() -> None:
    store, wide, narrow = InProcessBuckets(), bucket(1, 2, "wide"), bucket(1, 1, "narrow")
    assert await store.take([wide, narrow], 0) is None
    refused = await store.take([wide, narrow], 0)
    assert refused is not None
    assert refused.bucket is narrow
    assert await store.take([wide], 0) is None


async def test_merchants_do_not_share_a_bucket() -> None:
    store = InProcessBuckets()
    assert await store.take([bucket(1, 1, "a")], 0) is None
    assert await store.take([bucket(1, 1, "b")], 0) is None


@given(
    rate=st.sampled_from([1, 2, 4, 5, 8, 10, 1000]),  # these divide a second exactly, as the reference needs
    burst=st.integers(1, 20),
    gaps=st.lists(st.integers(0, 3 * SECOND), max_size=60),
)
async def test_equals_an_exact_token_bucket(rate: int, burst: int, gaps: list[int]) -> None:
    store, now, tokens = InProcessBuckets(), 0, Fraction(burst)
    for gap in gaps:
        now += gap
        tokens = min(Fraction(burst), tokens + Fraction(gap * rate, SECOND))
        expected = tokens >= 1
        tokens -= 1 if expected else 0
        assert (await store.take([bucket(rate, burst)], now) is None) == expected
