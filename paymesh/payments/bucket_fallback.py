"""Owns what limits do while shared state cannot be asked: each its own `on_error`, decided in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paymesh.payments.denial import Unavailable
from paymesh.payments.policy.rate_limits import OnError
from paymesh.payments.token_bucket import Bucket, BucketStore, InProcessBuckets, Taken


class BucketsWithFallback:
    """A `BucketStore` that raises Unavailable only for limits that say `deny`.

    The buckets of this process are full when an outage begins, and rest while shared state answers.
    """

    def __init__(self, shared: BucketStore) -> None:
        self._shared = shared
        self._local = InProcessBuckets()

    async def take(self, buckets: Sequence[Bucket], now_ns: int) -> Taken:
        try:
            return await self._shared.take(buckets, now_ns)
        except Unavailable:
            # A limit in shadow never stops a payment, whatever it says.
            if any(bucket.enforced and bucket.on_error is OnError.DENY for bucket in buckets):
                raise
        local = [bucket for bucket in buckets if bucket.on_error is OnError.LOCAL]
        return replace(await self._local.take(local, now_ns), without_store=tuple(buckets))
