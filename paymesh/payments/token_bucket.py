"""Owns the token bucket: GCRA in integer nanoseconds, so that nothing drifts and no window edge doubles a limit.

Source of the algorithm: ITU-T I.371 (generic cell rate algorithm, virtual scheduling). A refused request takes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from paymesh.payments.policy.callers import BucketSize

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """One caller's bucket under one limit. `key` is unique; sizes may change under a key without losing its state."""

    key: tuple[str, str]
    size: BucketSize


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The bucket that refused, and the whole seconds (rounded up) after which one request fits again."""

    bucket: Bucket
    retry_after_s: int


class BucketStore(Protocol):
    async def take(self, buckets: Sequence[Bucket], now_ns: int) -> Exhausted | None:
        """Take one token from every bucket, or none from any. `now_ns` is monotonic. Raises Unavailable."""
        ...


class InProcessBuckets:
    """Buckets in this process's memory: one entry a merchant and limit, bounded by the policy."""

    def __init__(self) -> None:
        self._theoretical_arrival_ns: dict[tuple[str, str], int] = {}

    async def take(self, buckets: Sequence[Bucket], now_ns: int) -> Exhausted | None:
        arrivals = []
        for bucket in buckets:
            interval_ns = _SECOND_NS // bucket.size.requests_per_second
            arrival_ns = max(self._theoretical_arrival_ns.get(bucket.key, 0), now_ns)
            # A bucket of `burst` tokens lets the theoretical arrival run ahead by burst - 1 intervals.
            wait_ns = arrival_ns - (bucket.size.burst - 1) * interval_ns - now_ns
            if wait_ns > 0:
                return Exhausted(bucket, -(-wait_ns // _SECOND_NS))
            arrivals.append((bucket.key, arrival_ns + interval_ns))
        self._theoretical_arrival_ns.update(arrivals)
        return None
