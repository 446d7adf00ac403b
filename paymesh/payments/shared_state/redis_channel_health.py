"""Owns channels' health in shared state: a hash a channel and watch, judged by one script, by the store's own clock."""

from __future__ import annotations

from paymesh.payments.channels.health import (
    BUCKETS,
    US_PER_S,
    WHOLE,
    WINDOWS,
    Counts,
    Place,
    Seen,
    Standing,
    bucket_us,
    standing_of,
)
from paymesh.payments.policy.channel_rules import Watch
from paymesh.payments.shared_state.client import Script, SharedState
from paymesh.payments.shared_state.keys import channel_health_key

# ARGV: the time in microseconds (0: ask the server), worked, failed, last_failed, then a bucket's length, buckets of a
# window and of what is looked back on; then of an elimination: failures (0: no matter), failure_rate (-1: no matter),
# min_samples, pause in microseconds, probe_successes (0: nobody eliminates), and the whole of a rate.
# Fields: w<n> and f<n> of bucket n, k streak, o out since, p probed. The rules are those of `InProcessChannelHealth`.
_REPORT = Script(
    """
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local function text(value) return string.format('%.0f', value) end
local worked, failed = tonumber(ARGV[2]), tonumber(ARGV[3])
local length, window, back = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local pause, successes = tonumber(ARGV[11]), tonumber(ARGV[12])
local bucket = math.floor(now / length)
local held, counts, old = redis.call('HGETALL', KEYS[1]), {}, {}
local streak, out, probed = 0, nil, 0
for i = 1, #held, 2 do
  local field, value = held[i], tonumber(held[i + 1])
  local kind, number = string.sub(field, 1, 1), tonumber(string.sub(field, 2))
  if kind == 'k' then streak = value
  elseif kind == 'o' then out = value
  elseif kind == 'p' then probed = value
  elseif number > bucket or number <= bucket - back then old[#old + 1] = field
  else counts[#counts + 1] = {kind, number, value, field} end
end
if worked > 0 then counts[#counts + 1] = {'w', bucket, worked, 'w' .. text(bucket)} end
if failed > 0 then counts[#counts + 1] = {'f', bucket, failed, 'f' .. text(bucket)} end
if worked > 0 then redis.call('HINCRBY', KEYS[1], 'w' .. text(bucket), worked) end
if failed > 0 then redis.call('HINCRBY', KEYS[1], 'f' .. text(bucket), failed) end
if worked > 0 then streak = tonumber(ARGV[4]) else streak = streak + failed end
local function sum(since)
  local total = {w = 0, f = 0}
  for _, one in ipairs(counts) do
    if one[2] > since then total[one[1]] = total[one[1]] + one[3] end
  end
  return total
end
if successes > 0 then
  if not out then
    local recent, failures, rate = sum(bucket - window), tonumber(ARGV[8]), tonumber(ARGV[9])
    local total = recent.w + recent.f
    local failing = failures > 0 and streak >= failures
    if rate >= 0 and total >= tonumber(ARGV[10]) and recent.f * tonumber(ARGV[13]) > rate * total then
      failing = true
    end
    if failing then out, probed = now, 0 end
  else
    if now < out then out = now end
    if now - out >= pause then
      if failed > 0 then
        out, probed = now, 0
      else
        probed = probed + worked
        if probed >= successes then
          for _, one in ipairs(counts) do old[#old + 1] = one[4] end
          counts, out, streak = {}, nil, 0
        end
      end
    end
  end
end
if #old > 0 then redis.call('HDEL', KEYS[1], unpack(old)) end
redis.call('HSET', KEYS[1], 'k', text(streak), 'p', text(probed))
if out then redis.call('HSET', KEYS[1], 'o', text(out)) else redis.call('HDEL', KEYS[1], 'o') end
redis.call('PEXPIRE', KEYS[1], math.ceil((length * back + pause) / 1000))
local place = 0
if out and successes > 0 then place = now - out < pause and 1 or 2 end
local recent, lately = sum(bucket - window), sum(bucket - back)
return {recent.w, recent.f, lately.w, lately.f, place}
"""
)
_NOBODY_ELIMINATES = (0, -1, 0, 0, 0)


class RedisChannelHealth:
    """Implements `ChannelHealthStore`. `now_ns` counts only with `clock_of_caller` (for tests)."""

    def __init__(self, state: SharedState, *, clock_of_caller: bool = False) -> None:
        self._state = state
        self._clock_of_caller = clock_of_caller

    async def report(self, channel: str, watch: Watch, seen: Seen, now_ns: int) -> Standing:
        now_us = max(1, now_ns // 1000) if self._clock_of_caller else 0
        counted = seen.worked, seen.failed, seen.last_failed
        spans = bucket_us(watch), BUCKETS, BUCKETS * WINDOWS
        arguments = [now_us, *counted, *spans, *_rules(watch), WHOLE]
        answer = await self._state.run(_REPORT, [channel_health_key(channel, watch.name)], arguments)
        worked, failed, worked_lately, failed_lately, place = map(int, answer)
        return standing_of(Counts(worked, failed), Counts(worked_lately, failed_lately), Place(place), watch)


def _rules(watch: Watch) -> tuple[int, ...]:
    rules = watch.elimination
    if rules is None:
        return _NOBODY_ELIMINATES
    rate = -1 if rules.failure_rate is None else rules.failure_rate
    return rules.failures or 0, rate, watch.min_samples, rules.pause_s * US_PER_S, rules.probe_successes
