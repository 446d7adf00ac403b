"""Owns how well channels do, by what came of their payments: counted in windows, and when a failing one is out.

An outcome is a payment's, not an answer's status, and what is the payer's or the merchant's fault is none (`Fault`).
`shared_state/redis_channel_health.py` implements the same contract for many workers; one test holds both to the same
answers.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from paymesh.payments.policy.channel_rules import Elimination, Watch

BUCKETS = 6
"""Parts of a window: it slides by these."""
WINDOWS = 10
"""How many windows are looked back on where one holds too little."""
WHOLE = 10_000
US_PER_S = 1_000_000


class Counts(NamedTuple):
    """Payments by how they ended."""

    worked: int
    failed: int

    @property
    def total(self) -> int:
        return self.worked + self.failed


NOTHING = Counts(0, 0)


class Place(enum.IntEnum):
    """Where an elimination has put a channel."""

    IN = 0
    PAUSED = 1
    """Out, and nobody goes there."""
    PROBED = 2
    """Out; a share of the orders try it."""


class Standing(NamedTuple):
    """What is known of a channel. `recent`: in the window; `lately`: in as many as are looked back on.

    `rate`: how many succeed, of 10,000 and rounded down; None where there are too few outcomes to say.
    """

    recent: Counts
    lately: Counts
    place: Place
    rate: int | None


UNKNOWN = Standing(NOTHING, NOTHING, Place.IN, None)


def standing_of(recent: Counts, lately: Counts, place: Place, watch: Watch) -> Standing:
    enough = next((one for one in (recent, lately) if one.total >= watch.min_samples), None)
    return Standing(recent, lately, place, None if enough is None else enough.worked * WHOLE // enough.total)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker saw since it last told. `last_failed`: failures since the last payment that worked, or since it
    last told."""

    worked: int = 0
    failed: int = 0
    last_failed: int = 0


class ChannelHealth(Protocol):
    """What decisions ask, without waiting."""

    def standings(self, watch: Watch) -> Mapping[str, Standing]:
        """By channel; of those not in it nothing is known."""
        ...

    def is_down(self, service: str) -> bool:
        """Whether Envoy finds no healthy host of it."""
        ...


class NothingKnown:
    """Nobody watches: every channel is in. Implements `ChannelHealth`."""

    def standings(self, watch: Watch) -> Mapping[str, Standing]:  # noqa: ARG002 - of all the same
        return {}

    def is_down(self, service: str) -> bool:  # noqa: ARG002
        return False


class ChannelHealthStore(Protocol):
    """Counts of all workers."""

    async def report(self, channel: str, watch: Watch, seen: Seen, now_ns: int) -> Standing:
        """Add what a worker saw, and hear how the channel stands. `now_ns` is monotonic; a store that is shared goes
        by its own clock. Raises Unavailable."""
        ...


def bucket_us(watch: Watch) -> int:
    """How long a bucket is, microseconds."""
    return watch.window_s * US_PER_S // BUCKETS


def is_failing(streak: int, recent: Counts, rules: Elimination, min_samples: int) -> bool:
    """Whether a channel that was in is out now. `streak`: failures since the last payment that worked."""
    if rules.failures is not None and streak >= rules.failures:
        return True
    enough = recent.total >= min_samples
    return rules.failure_rate is not None and enough and recent.failed * WHOLE > rules.failure_rate * recent.total


@dataclass(slots=True)
class _Kept:
    buckets: dict[int, Counts] = field(default_factory=dict)
    streak: int = 0
    out_since_us: int | None = None
    probed: int = 0
    """Payments in a row that worked since probing began."""

    def counts(self, since: int) -> Counts:
        """Of the buckets after `since`."""
        worked = failed = 0
        for number, counts in self.buckets.items():
            if number > since:
                worked += counts.worked
                failed += counts.failed
        return Counts(worked, failed)


class InProcessChannelHealth:
    """Implements `ChannelHealthStore`."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Watch], _Kept] = {}

    async def report(self, channel: str, watch: Watch, seen: Seen, now_ns: int) -> Standing:
        kept = self._kept.setdefault((channel, watch), _Kept())
        now_us = now_ns // 1000
        bucket = now_us // bucket_us(watch)
        _add(kept, bucket, seen)
        if watch.elimination is not None:
            failing = is_failing(kept.streak, kept.counts(bucket - BUCKETS), watch.elimination, watch.min_samples)
            _judge(kept, failing, seen, watch.elimination, now_us)
        recent, lately = kept.counts(bucket - BUCKETS), kept.counts(bucket - BUCKETS * WINDOWS)
        return standing_of(recent, lately, _place(kept, watch.elimination, now_us), watch)


def _add(kept: _Kept, bucket: int, seen: Seen) -> None:
    # A clock that was set back leaves buckets of times to come: they would count for ever.
    for number in [one for one in kept.buckets if not bucket - BUCKETS * WINDOWS < one <= bucket]:
        del kept.buckets[number]
    if seen.worked or seen.failed:
        before = kept.buckets.get(bucket, NOTHING)
        kept.buckets[bucket] = Counts(before.worked + seen.worked, before.failed + seen.failed)
    kept.streak = seen.last_failed if seen.worked else kept.streak + seen.failed


def _judge(kept: _Kept, failing: bool, seen: Seen, rules: Elimination, now_us: int) -> None:
    if kept.out_since_us is None:
        if failing:
            kept.out_since_us, kept.probed = now_us, 0
        return
    if now_us < kept.out_since_us:
        kept.out_since_us = now_us  # the clock was set back
    if now_us - kept.out_since_us < rules.pause_s * US_PER_S:
        return  # these left before it was out: they say nothing new
    if seen.failed:
        kept.out_since_us, kept.probed = now_us, 0
        return
    kept.probed += seen.worked
    if kept.probed >= rules.probe_successes:
        # Counted anew: what put it out must not put it out again.
        kept.buckets.clear()
        kept.out_since_us, kept.streak = None, 0


def _place(kept: _Kept, rules: Elimination | None, now_us: int) -> Place:
    if kept.out_since_us is None or rules is None:
        return Place.IN
    return Place.PAUSED if now_us - kept.out_since_us < rules.pause_s * US_PER_S else Place.PROBED
