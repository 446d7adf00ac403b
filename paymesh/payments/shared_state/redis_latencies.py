"""Owns latencies in shared state: a hash a limit and service, judged by one script, by the store's own clock."""

from __future__ import annotations

from paymesh.payments.limits.latency import IDLE_S, WHOLE, LatencySettings
from paymesh.payments.shared_state.client import Script, SharedState
from paymesh.payments.shared_state.keys import latency_key

_US_PER_S = 1_000_000

# ARGV: the time in microseconds (0: ask the server), over, total, then window and idle time in us, min_samples, floor,
# shrink_to, grow_by, whole. Fields: s share, o over, n total, b when the window began, r the last report.
# The arithmetic is `next_share`'s and `share_after_silence`'s; one test holds both to the same answers.
_REPORT = Script(
    """
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local window, idle, whole = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[10])
local floor, grow_by = tonumber(ARGV[7]), tonumber(ARGV[9])
local function bounded(share) return math.min(whole, math.max(floor, share)) end
local share, over, total, began = whole, 0, 0, now
local held = redis.call('HMGET', KEYS[1], 's', 'o', 'n', 'b', 'r')
if held[1] then
  share = tonumber(held[1])
  local silent = now - tonumber(held[5])
  if silent >= idle then
    share = bounded(share + grow_by * math.floor(silent / math.max(1, window)))
  else
    over, total = tonumber(held[2]), tonumber(held[3])
    -- A clock that was set back (a replica's may be behind its master's): the window begins anew, what is known stays.
    if silent >= 0 then began = tonumber(held[4]) end
  end
end
over, total = over + tonumber(ARGV[2]), total + tonumber(ARGV[3])
if now - began >= window then
  local slow = over * 20 > total
  if not (slow and total < tonumber(ARGV[6])) then
    share = bounded(slow and math.floor(share * tonumber(ARGV[8]) / whole) or share + grow_by)
  end
  over, total, began = 0, 0, now
end
local function text(value) return string.format('%.0f', value) end
redis.call('HSET', KEYS[1], 's', share, 'o', over, 'n', total, 'b', text(began), 'r', text(now))
-- Not before silence has made it whole: a key that is not there is whole.
local growing = math.ceil((whole - share) / math.max(1, grow_by)) * window
redis.call('PEXPIRE', KEYS[1], math.ceil((idle + growing) / 1000))
return share
"""
)


class RedisLatencies:
    """Implements `LatencyStore`. `now_ns` counts only with `clock_of_caller` (for tests)."""

    def __init__(self, state: SharedState, *, clock_of_caller: bool = False) -> None:
        self._state = state
        self._clock_of_caller = clock_of_caller

    async def report(self, key: tuple[str, str], settings: LatencySettings, over: int, total: int, now_ns: int) -> int:
        now_us = max(1, now_ns // 1000) if self._clock_of_caller else 0
        spans = settings.window_s * _US_PER_S, IDLE_S * _US_PER_S
        judged = settings.min_samples, settings.floor, settings.shrink_to, settings.grow_by
        arguments = [now_us, over, total, *spans, *judged, WHOLE]
        return int(await self._state.run(_REPORT, [latency_key(key)], arguments))
