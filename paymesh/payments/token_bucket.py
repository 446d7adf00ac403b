"""Owns the token bucket: exact integer arithmetic, so that nothing drifts and no window edge doubles a limit.

A bucket's level is counted in billionths of a token: a nanosecond brings `requests_per_second` of them, whatever the
rate. It admits what GCRA admits (ITU-T I.371, generic cell rate algorithm). A refused request takes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from paymesh.payments.policy.callers import BucketSize
from paymesh.payments.policy.rate_limits import OnError

_SECOND_NS = 1_000_000_000
_TOKEN = 1_000_000_000
_SWEEP_AT = 10_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """One caller's bucket under one limit. Sizes may change under a key without losing its level.

    `key`: the limit's name, then the value of each of its dimensions.
    """

    key: tuple[str, ...]
    size: BucketSize
    on_error: OnError = OnError.LOCAL
    enforced: bool = True
    """False: it takes and tells, and never refuses."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A bucket without a token, and the whole seconds (rounded up, at least 1) after which it has one again."""

    bucket: Bucket
    retry_after_s: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one request's buckets."""

    refused: Exhausted | None = None
    """The enforced bucket that has to be waited for longest; then nothing was taken from any."""
    shadowed: tuple[Bucket, ...] = ()
    """Those in shadow mode that would have refused."""
    without_store: tuple[Bucket, ...] = ()
    """Those whose shared state could not be asked: their `on_error` decided."""

    @property
    def admitted(self) -> bool:
        return self.refused is None


class BucketStore(Protocol):
    async def take(self, buckets: Sequence[Bucket], now_ns: int) -> Taken:
        """Take one token from every bucket, or none from any. `now_ns` is monotonic; a store that is shared goes by
        its own clock. Keys are distinct. Raises Unavailable."""
        ...


class InProcessBuckets:
    """Buckets in this process's memory. One that is full again is forgotten: callers of a day do not pile up."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, ...], tuple[int, int, BucketSize]] = {}
        self._sweep_at = _SWEEP_AT

    def __len__(self) -> int:
        return len(self._held)

    async def take(self, buckets: Sequence[Bucket], now_ns: int) -> Taken:
        levels = [self._level(bucket, now_ns) for bucket in buckets]
        waits_s = [_wait_s(level, bucket.size) for level, bucket in zip(levels, buckets, strict=True)]
        taken = judge(buckets, waits_s)
        if taken.admitted:
            for bucket, level in zip(buckets, levels, strict=True):
                if level >= _TOKEN:  # else a shadow's
                    # Requests may come here in another order than they began.
                    at_ns = max(now_ns, self._held[bucket.key][1]) if bucket.key in self._held else now_ns
                    self._held[bucket.key] = (level - _TOKEN, at_ns, bucket.size)
            if len(self._held) >= self._sweep_at:
                self._sweep(now_ns)
        return taken

    def _level(self, bucket: Bucket, now_ns: int) -> int:
        held = self._held.get(bucket.key)
        return bucket.size.burst * _TOKEN if held is None else _refilled(held[0], now_ns - held[1], bucket.size)

    def _sweep(self, now_ns: int) -> None:
        for key, (level, at_ns, size) in list(self._held.items()):
            if _refilled(level, now_ns - at_ns, size) >= size.burst * _TOKEN:
                del self._held[key]
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._held))


def _refilled(level: int, elapsed_ns: int, size: BucketSize) -> int:
    return min(size.burst * _TOKEN, level + max(0, elapsed_ns) * size.requests_per_second)


def _wait_s(level: int, size: BucketSize) -> int:
    return max(0, -(-(_TOKEN - level) // (size.requests_per_second * _SECOND_NS)))


def judge(buckets: Sequence[Bucket], waits_s: Sequence[int]) -> Taken:
    """What follows from how long each bucket has to be waited for (whole seconds; 0: it has a token)."""
    refused: Exhausted | None = None
    shadowed = []
    for bucket, wait_s in zip(buckets, waits_s, strict=True):
        if wait_s and not bucket.enforced:
            shadowed.append(bucket)
        elif wait_s and (refused is None or wait_s > refused.retry_after_s):
            refused = Exhausted(bucket, wait_s)
    return Taken(refused, tuple(shadowed))
