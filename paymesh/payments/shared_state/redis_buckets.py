"""Owns token buckets in shared state: a hash each, changed by one script a request, by the store's own clock.

The arithmetic is `InProcessBuckets`' with microseconds for nanoseconds: millionths of a token, whole numbers that a
Lua double holds exactly (burst up to 10^7, so levels up to 10^13; longer rests only meet the cap). A bucket that is
full again is gone: its key expires then.

On a cluster the buckets of a request may live in several slots, where no script reaches them all. Then each slot's are
taken apart, and what was taken is given back when another's refuse: for a moment somebody else may be refused who
would have passed, never the other way round. What was taken when another slot's call failed stays taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from paymesh.payments.policy.callers import BucketSize
from paymesh.payments.shared_state.client import Script, SharedState
from paymesh.payments.shared_state.keys import bucket_key, bucket_slot
from paymesh.payments.token_bucket import Bucket, Taken, judge

# ARGV: the time in microseconds (0: ask the server), then for each key its rate, its burst, and 1 if it is enforced.
# The answer: for each key the microseconds until it has a token.
_TAKE = Script(
    """
local TOKEN = 1000000
local now = tonumber(ARGV[1])
local by_caller = now > 0
if not by_caller then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local levels, waits, refused = {}, {}, false
for i, key in ipairs(KEYS) do
  local rate, burst, enforced = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), ARGV[3 * i + 1]
  local held = redis.call('HMGET', key, 'l', 't')
  local level = burst * TOKEN
  if held[1] then
    local since = tonumber(held[2])
    if since > now then
      -- The clock was set back: nothing comes for that, and it goes on from where it is now.
      redis.call('HSET', key, 't', string.format('%.0f', now))
      since = now
    end
    level = math.min(level, tonumber(held[1]) + (now - since) * rate)
  end
  levels[i], waits[i] = level, 0
  if level < TOKEN then
    waits[i] = math.ceil((TOKEN - level) / rate)
    if enforced == '1' then refused = true end
  end
end
if refused then return waits end
for i, key in ipairs(KEYS) do
  if waits[i] == 0 then
    local rate, burst = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
    local left = levels[i] - TOKEN
    redis.call('HSET', key, 'l', string.format('%.0f', left), 't', string.format('%.0f', now))
    -- Keys expire by the server's clock, whatever the caller's says.
    redis.call('PEXPIRE', key, by_caller and 60000 or math.ceil((burst * TOKEN - left) / rate / 1000) + 1)
  end
end
return waits
"""
)
# ARGV: for each key its burst.
_GIVE_BACK = Script(
    """
for i, key in ipairs(KEYS) do
  local level = redis.call('HGET', key, 'l')
  if level then
    level = math.min(tonumber(ARGV[i]) * 1000000, tonumber(level) + 1000000)
    redis.call('HSET', key, 'l', string.format('%.0f', level))
  end
end
return 0
"""
)
_US_PER_S = 1_000_000


class RedisBuckets:
    """Implements `BucketStore`; one round trip a request. `now_ns` counts only with `clock_of_caller` (for tests)."""

    def __init__(self, state: SharedState, *, clock_of_caller: bool = False) -> None:
        self._state = state
        self._clock_of_caller = clock_of_caller

    async def take(self, buckets: Sequence[Bucket], now_ns: int) -> Taken:
        now_us = max(1, now_ns // 1000) if self._clock_of_caller else 0
        groups = self._groups(buckets)
        if len(groups) == 1:
            return judge(buckets, await self._take(groups[0], now_us))
        answers = await asyncio.gather(*(self._take(group, now_us) for group in groups), return_exceptions=True)
        waits: dict[tuple[str, ...], int] = {}
        taken_from: list[list[Bucket]] = []
        failure: BaseException | None = None
        for group, answer in zip(groups, answers, strict=True):
            if isinstance(answer, BaseException):
                failure = failure or answer
                continue
            waits |= {bucket.key: wait for bucket, wait in zip(group, answer, strict=True)}
            if judge(group, answer).admitted:
                taken_from.append([bucket for bucket, wait in zip(group, answer, strict=True) if not wait])
        if failure is not None:
            raise failure
        taken = judge(buckets, [waits[bucket.key] for bucket in buckets])
        if not taken.admitted:
            # What cannot be given back is lost; the request is refused all the same.
            await asyncio.gather(*(self._give_back(group) for group in taken_from if group), return_exceptions=True)
        return taken

    def _groups(self, buckets: Sequence[Bucket]) -> list[list[Bucket]]:
        if not self._state.is_cluster:
            return [list(buckets)]
        groups: dict[str, list[Bucket]] = {}
        for bucket in buckets:
            groups.setdefault(bucket_slot(bucket.key), []).append(bucket)
        return list(groups.values())

    async def _take(self, buckets: Sequence[Bucket], now_us: int) -> list[int]:
        """Whole seconds to wait for each, rounded up."""
        arguments = [now_us]
        for bucket in buckets:
            arguments += [*_size(bucket.size), int(bucket.enforced)]
        waits_us = await self._state.run(_TAKE, [bucket_key(bucket.key) for bucket in buckets], arguments)
        return [-(-int(wait_us) // _US_PER_S) for wait_us in waits_us]

    async def _give_back(self, buckets: Sequence[Bucket]) -> None:
        keys = [bucket_key(bucket.key) for bucket in buckets]
        await self._state.run(_GIVE_BACK, keys, [bucket.size.burst for bucket in buckets])


def _size(size: BucketSize) -> tuple[int, int]:
    return size.requests_per_second, size.burst
