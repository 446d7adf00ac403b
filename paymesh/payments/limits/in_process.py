"""Owns limits in this process's memory: exact integers, so that nothing drifts and no window edge doubles a limit.

A bucket's level is counted in parts of a token, of which `tokens` come back each nanosecond, whatever the rate. It
admits what GCRA admits (ITU-T I.371, generic cell rate algorithm). A refused request takes nothing, unless its limit
says so. What is full, free or of another day is forgotten: callers of a day do not pile up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paymesh.payments.limits.demands import (
    OUTRUN_S,
    SLOT_RETRY_AFTER_S,
    BucketKey,
    Demand,
    Instant,
    Quota,
    Slot,
    Taken,
    Tokens,
    Used,
    judge,
)
from paymesh.payments.policy.callers import TokenRate

SECOND_NS = 1_000_000_000
DAY_S = 86_400
_SWEEP_AT = 10_000


@dataclass(slots=True)
class _Bucket:
    level: int
    at_ns: int
    rate: TokenRate


@dataclass(slots=True)
class _Day:
    number: int
    spent: int


@dataclass(slots=True)
class _Held:
    """What one request holds. `ended_ns`: it was over before it took anything."""

    slots: list[tuple[str, ...]]
    quotas: list[tuple[Quota, int]]
    until_ns: int
    ended: bool = False


class InProcessLimits:
    """Implements `LimitStore`. `take` never waits, so nobody comes between its questions and its answers."""

    def __init__(self) -> None:
        self._buckets: dict[BucketKey, _Bucket] = {}
        self._slots: dict[tuple[str, ...], dict[str, int]] = {}
        self._days: dict[tuple[str, ...], _Day] = {}
        self._held: dict[str, _Held] = {}
        self._sweep_at = _SWEEP_AT

    def __len__(self) -> int:
        return len(self._buckets) + len(self._slots) + len(self._days) + len(self._held)

    async def take(self, demands: Sequence[Demand], request_id: str, now: Instant) -> Taken:
        known = self._held.get(request_id)
        if known is not None and known.ended and not all(isinstance(demand, Tokens) for demand in demands):
            return Taken()
        levels = [self._level(demand, now) if isinstance(demand, Tokens) else 0 for demand in demands]
        waits = [self._wait_s(demand, level, now) for demand, level in zip(demands, levels, strict=True)]
        refused, shadowed = judge(demands, waits)
        if refused is not None:
            for demand, level in zip(demands, levels, strict=True):
                if isinstance(demand, Tokens) and demand.count_refused:
                    left = level - demand.cost * token(demand.rate)
                    self._leave(demand, max(left, -full(demand.rate)), now)
            return Taken(refused, shadowed)
        held: list[str] = []
        granted: dict[BucketKey, int] = {}
        for demand, wait, level in zip(demands, waits, levels, strict=True):
            if wait:  # a shadow's
                continue
            if isinstance(demand, Tokens):
                count = demand.cost
                if demand.batch > 1:
                    count = min(max(count, demand.batch), level // token(demand.rate))
                    granted[demand.bucket] = count
                self._leave(demand, level - count * token(demand.rate), now)
            else:
                self._hold(demand, request_id, now)
                held.append("in_process")
        if len(self) >= self._sweep_at:
            self._sweep(now)
        return Taken(None, shadowed, held=tuple(held), granted=granted)

    async def end(self, request_id: str, held: Sequence[str] | None, *, carried_out: bool, now: Instant) -> None:
        known = self._held.pop(request_id, None)
        if known is not None:
            for key in known.slots:
                self._free(key, request_id)
            for quota, day in known.quotas:
                spent = self._days.get(quota.key)
                if not carried_out and spent is not None and spent.number == day:
                    spent.spent -= quota.cost
        if held is None:
            until_ns = now.monotonic_ns + OUTRUN_S * SECOND_NS
            self._held[request_id] = _Held([], [], until_ns, ended=True)

    async def look(self, demands: Sequence[Demand], now: Instant) -> list[Used]:
        return [self._used(demand, now) for demand in demands]

    def _used(self, demand: Demand, now: Instant) -> Used:
        if isinstance(demand, Tokens):
            away = full(demand.rate) - self._level(demand, now)
            return Used(-(-away // token(demand.rate)), demand.rate.burst)
        if isinstance(demand, Slot):
            self._expire(demand.key, now)
            return Used(len(self._slots.get(demand.key, ())), demand.max)
        assert isinstance(demand, Quota)
        return Used(self._spent(demand, now), demand.max)

    def _wait_s(self, demand: Demand, level: int, now: Instant) -> int:
        if isinstance(demand, Tokens):
            missing = demand.cost * token(demand.rate) - level
            return 0 if missing <= 0 else -(-missing // (demand.rate.tokens * SECOND_NS))
        if isinstance(demand, Slot):
            if len(self._slots.get(demand.key, ())) >= demand.max:
                self._expire(demand.key, now)
            return SLOT_RETRY_AFTER_S if len(self._slots.get(demand.key, ())) >= demand.max else 0
        assert isinstance(demand, Quota)
        return 0 if self._spent(demand, now) + demand.cost <= demand.max else DAY_S - _second_of_day(demand, now)

    # -- tokens ----------------------------------------------------------------------------------------------------

    def _level(self, demand: Tokens, now: Instant) -> int:
        bucket = self._buckets.get(demand.bucket)
        if bucket is None:
            return full(demand.rate)
        return _refilled(bucket.level, now.monotonic_ns - bucket.at_ns, demand.rate)

    def _leave(self, demand: Tokens, level: int, now: Instant) -> None:
        bucket = self._buckets.get(demand.bucket)
        if bucket is None:
            self._buckets[demand.bucket] = _Bucket(level, now.monotonic_ns, demand.rate)
            return
        bucket.level, bucket.rate = level, demand.rate
        # Requests may come here in another order than they began.
        bucket.at_ns = max(now.monotonic_ns, bucket.at_ns)

    # -- slots and quotas ------------------------------------------------------------------------------------------

    def _hold(self, demand: Demand, request_id: str, now: Instant) -> None:
        held = self._held.setdefault(request_id, _Held([], [], now.monotonic_ns + DAY_S * SECOND_NS))
        if isinstance(demand, Slot):
            until_ns = now.monotonic_ns + demand.lease_s * SECOND_NS
            self._slots.setdefault(demand.key, {})[request_id] = until_ns
            held.slots.append(demand.key)
            held.until_ns = min(held.until_ns, until_ns)
        elif isinstance(demand, Quota):
            spent = self._spent(demand, now)
            number = _day(demand, now)
            self._days[demand.key] = _Day(number, spent + demand.cost)
            held.quotas.append((demand, number))

    def _expire(self, key: tuple[str, ...], now: Instant) -> None:
        slots = self._slots.get(key)
        if slots is None:
            return
        for request_id in [one for one, until_ns in slots.items() if until_ns <= now.monotonic_ns]:
            self._free(key, request_id)

    def _free(self, key: tuple[str, ...], request_id: str) -> None:
        slots = self._slots.get(key)
        if slots is not None:
            slots.pop(request_id, None)
            if not slots:
                del self._slots[key]

    def _spent(self, demand: Quota, now: Instant) -> int:
        day = self._days.get(demand.key)
        return day.spent if day is not None and day.number == _day(demand, now) else 0

    def _sweep(self, now: Instant) -> None:
        for key, bucket in list(self._buckets.items()):
            if _refilled(bucket.level, now.monotonic_ns - bucket.at_ns, bucket.rate) >= full(bucket.rate):
                del self._buckets[key]
        for slot_key in list(self._slots):
            self._expire(slot_key, now)
        for day_key, day in list(self._days.items()):
            if day.number < now.unix_s // DAY_S - 1:
                del self._days[day_key]
        for request_id, held in list(self._held.items()):
            if held.until_ns <= now.monotonic_ns:
                del self._held[request_id]
        self._sweep_at = max(_SWEEP_AT, 2 * len(self))


def token(rate: TokenRate) -> int:
    """A token, in the parts of which `rate.tokens` come back each nanosecond."""
    return rate.per_s * SECOND_NS


def full(rate: TokenRate) -> int:
    return rate.burst * token(rate)


def _refilled(level: int, elapsed_ns: int, rate: TokenRate) -> int:
    return min(full(rate), level + max(0, elapsed_ns) * rate.tokens)


def _day(demand: Quota, now: Instant) -> int:
    return (now.unix_s + demand.day_begins_s) // DAY_S


def _second_of_day(demand: Quota, now: Instant) -> int:
    return (now.unix_s + demand.day_begins_s) % DAY_S
