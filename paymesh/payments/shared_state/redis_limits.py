"""Owns limits in shared state: one script for all demands of a request, by the store's own clock.

The arithmetic is `InProcessLimits`' with microseconds for nanoseconds; burst times `per_s` is at most 10^9 (checked at
load), so that a Lua double holds every level exactly. A bucket is a hash that expires when it is full, slots are a
sorted set of request ids by the end of their lease, a day's quota is a hash with the day's number.

What a request holds stands under its own id as well, until its end. So an end that comes without knowing what was
taken finds it; one that comes before anything was taken leaves word, and nothing is taken.

On a cluster the demands of a request may live in several hash slots, where no script reaches them all. Then each hash
slot's are met apart, at once, and what was taken is given back when another's refuse: for a moment somebody else may
be refused who would have passed, never the other way round. What was taken when another hash slot's call failed stays
taken until its lease or day ends, or `end` is told; so does a slot whose request's end comes just between two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from paymesh.payments.limits.demands import (
    OUTRUN_S,
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
from paymesh.payments.shared_state.client import Script, SharedState
from paymesh.payments.shared_state.keys import bucket_key, hash_tag, limit_slot, quota_key, request_key, slots_key

_US_PER_S = 1_000_000
_DAY_S = 86_400

# Shared by the scripts: what a demand is made of. ARGV[1] is the time in microseconds (0: ask the server), ARGV[2] all
# that is said of the demands, between commas (a driver takes long to pack many arguments), eight words each: its type
# (t, s, q), 1 if it is enforced, then
# t: tokens, per_s, burst, cost, batch, 1 if refused ones count; s: max, lease in ms; q: max, cost, day_begins_s.
_READING = """
local TOKEN_US, DAY_US = 1000000, 86400000000
local now = tonumber(ARGV[1])
local by_caller = now > 0
if not by_caller then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local words = {}
for word in string.gmatch(ARGV[2], '[^,]+') do words[#words + 1] = word end
local function kind_of(i) return words[8 * i - 7] end
local function number(i, n) return tonumber(words[8 * i - 7 + n]) end
local function whole(value) return string.format('%.0f', value) end
local function day_of(begins) return math.floor((now + begins * 1000000) / DAY_US) end
local function level_of(key, i)
  local rate, token = number(i, 2), number(i, 3) * TOKEN_US
  local full = number(i, 4) * token
  local held = redis.call('HMGET', key, 'l', 't')
  if not held[1] then return full, token, full end
  local since = tonumber(held[2])
  if since > now then
    -- The clock was set back: nothing comes for that, and it goes on from where it is now.
    redis.call('HSET', key, 't', whole(now))
    since = now
  end
  return math.min(full, tonumber(held[1]) + (now - since) * rate), token, full
end
local function slots_of(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now))
  return redis.call('ZCARD', key)
end
local function spent_of(key, day)
  local held = redis.call('HMGET', key, 'd', 'n')
  if held[1] and tonumber(held[1]) == day then return tonumber(held[2]) end
  return 0
end
"""
# ARGV[3]: the request's id. ARGV[4]: for how many ms what it holds is kept under KEYS' last (0: it is not among them).
# The answer: for each demand the microseconds to wait, for each the tokens taken, and what is held, a line each.
_TAKE = Script(
    _READING
    + """
local record = tonumber(ARGV[4]) > 0
local count = #KEYS - (record and 1 or 0)
local waits, granted, held, refused = {}, {}, {}, false
local levels, tokens, fulls = {}, {}, {}
if record and string.sub(redis.call('GET', KEYS[#KEYS]) or '', 1, 4) == 'gone' then
  for i = 1, count do waits[i], granted[i] = 0, 0 end
  return {waits, granted, ''}
end
for i = 1, count do
  local key, kind, wait = KEYS[i], kind_of(i), 0
  if kind == 't' then
    levels[i], tokens[i], fulls[i] = level_of(key, i)
    local missing = number(i, 5) * tokens[i] - levels[i]
    if missing > 0 then wait = math.ceil(missing / number(i, 2)) end
  elseif kind == 's' then
    if slots_of(key) >= number(i, 2) then wait = 1000000 end
  else
    local day = day_of(number(i, 4))
    if spent_of(key, day) + number(i, 3) > number(i, 2) then
      wait = (day + 1) * DAY_US - (now + number(i, 4) * 1000000)
    end
  end
  waits[i], granted[i] = wait, 0
  if wait > 0 and number(i, 1) == 1 then refused = true end
end
local function leave(i, level)
  redis.call('HSET', KEYS[i], 'l', whole(level), 't', whole(now))
  -- Keys expire by the server's clock, whatever the caller's says.
  redis.call('PEXPIRE', KEYS[i], by_caller and 600000 or math.ceil((fulls[i] - level) / number(i, 2) / 1000) + 1)
end
if refused then
  for i = 1, count do
    if kind_of(i) == 't' and number(i, 7) == 1 then
      leave(i, math.max(levels[i] - number(i, 5) * tokens[i], -fulls[i]))
    end
  end
  return {waits, granted, ''}
end
for i = 1, count do
  local key, kind = KEYS[i], kind_of(i)
  if waits[i] > 0 then
    -- a shadow's
  elseif kind == 't' then
    granted[i] = math.min(math.max(number(i, 5), number(i, 6)), math.floor(levels[i] / tokens[i]))
    leave(i, levels[i] - granted[i] * tokens[i])
  elseif kind == 's' then
    redis.call('ZADD', key, whole(now + number(i, 3) * 1000), ARGV[3])
    if redis.call('PTTL', key) < number(i, 3) then redis.call('PEXPIRE', key, number(i, 3)) end
    held[#held + 1] = 's ' .. key
  else
    local day = day_of(number(i, 4))
    redis.call('HSET', key, 'n', whole(spent_of(key, day) + number(i, 3)), 'd', whole(day))
    local left = (day + 1) * DAY_US - (now + number(i, 4) * 1000000)
    redis.call('PEXPIRE', key, by_caller and 600000 or math.ceil(left / 1000))
    held[#held + 1] = 'q ' .. key .. ' ' .. number(i, 3) .. ' ' .. whole(day)
  end
end
held = table.concat(held, '\\n')
if record and held ~= '' then redis.call('SET', KEYS[#KEYS], held, 'PX', ARGV[4]) end
return {waits, granted, held}
"""
)
# On a cluster: what is about to be held, under the request's id. ARGV: as above, ms to keep it, then each one's key.
# 1: the request is over already.
_RECORD = Script(
    _READING
    + """
if string.sub(redis.call('GET', KEYS[1]) or '', 1, 4) == 'gone' then return 1 end
local held = {}
for i = 1, #ARGV - 3 do
  local line = kind_of(i) .. ' ' .. ARGV[3 + i]
  if kind_of(i) == 'q' then line = line .. ' ' .. number(i, 3) .. ' ' .. whole(day_of(number(i, 4))) end
  held[i] = line
end
redis.call('SET', KEYS[1], table.concat(held, '\\n'), 'PX', ARGV[3])
return 0
"""
)
# ARGV: the request's id, 1 if quotas come back, then for each key a letter and two numbers. r and g: the request's
# record, which says whether anything is left to come back, before its end (r) or after it was told (g); s; q: cost,
# day; t: what is added and the most, in parts of a token.
_GIVE_BACK = Script(
    """
local quotas, known = ARGV[2] == '1', 1
for i, key in ipairs(KEYS) do
  local kind, a, b = unpack(ARGV, 3 * i, 3 * i + 2)
  if kind == 'r' then
    local held = redis.call('GET', key) or 'gone'
    if string.sub(held, 1, 4) ~= 'gone' then redis.call('DEL', key) else known = 0 end
  elseif kind == 'g' then
    if #(redis.call('GET', key) or '') > 4 then redis.call('SET', key, 'gone', 'KEEPTTL') else known = 0 end
  elseif kind == 's' then
    redis.call('ZREM', key, ARGV[1])
  elseif kind == 'q' then
    local day = redis.call('HGET', key, 'd')
    if quotas and known == 1 and day and tonumber(day) == tonumber(b) then
      local left = math.max(0, tonumber(redis.call('HGET', key, 'n')) - tonumber(a))
      redis.call('HSET', key, 'n', string.format('%.0f', left))
    end
  else
    local level = redis.call('HGET', key, 'l')
    if level then
      redis.call('HSET', key, 'l', string.format('%.0f', math.min(tonumber(b), tonumber(level) + tonumber(a))))
    end
  end
end
return known
"""
)
# What is held stays known until it was given back: the call that does so may fail, and is made again then.
_OVER = Script(
    """
local held = redis.call('GET', KEYS[1]) or 'gone'
if string.sub(held, 1, 4) ~= 'gone' then held = 'gone\\n' .. held end
redis.call('SET', KEYS[1], held, 'PX', ARGV[1])
return string.sub(held, 6)
"""
)
_LOOK = Script(
    _READING
    + """
local used = {}
for i, key in ipairs(KEYS) do
  local kind = kind_of(i)
  if kind == 't' then
    local level, token, full = level_of(key, i)
    used[i] = math.ceil((full - level) / token)
  elseif kind == 's' then
    used[i] = slots_of(key)
  else
    used[i] = spent_of(key, day_of(number(i, 4)))
  end
end
return used
"""
)


class RedisLimits:
    """Implements `LimitStore`; one round trip a request. The caller's time counts only with `clock_of_caller` (for
    tests)."""

    def __init__(self, state: SharedState, *, clock_of_caller: bool = False) -> None:
        self._state = state
        self._clock_of_caller = clock_of_caller

    async def take(self, demands: Sequence[Demand], request_id: str, now: Instant) -> Taken:
        if self._state.is_cluster:
            return await self._take_apart(demands, request_id, now)
        return _taken(demands, await self._take(demands, request_id, now, _record_ms(demands)))

    async def _take_apart(self, demands: Sequence[Demand], request_id: str, now: Instant) -> Taken:
        groups = _by_hash_slot(demands)
        holding = [demand for demand in demands if not isinstance(demand, Tokens)]
        recording = self._record(holding, request_id, now)
        calls = [self._take(group, request_id, now, record_ms=0) for group in groups]
        # All are waited for, also when one fails: none may be on its way when the others are given back.
        over, *answers = await asyncio.gather(recording, *calls, return_exceptions=True)
        for answer in (over, *answers):
            if isinstance(answer, BaseException):
                raise answer
        apart = [_taken(group, answer) for group, answer in zip(groups, answers, strict=True)]
        refused = max(
            (one.refused for one in apart if one.refused is not None), key=lambda one: one.retry_after_s, default=None
        )
        shadowed = tuple(demand for one in apart for demand in one.shadowed)
        if refused is not None or over:
            # What cannot be given back is lost until its time; the request is refused all the same.
            undoing = [self._undo(group, one, request_id) for group, one in zip(groups, apart, strict=True)]
            forgetting = [self._forget(request_id)] if holding and not over else []
            await asyncio.gather(*undoing, *forgetting, return_exceptions=True)
            return Taken(refused, shadowed)
        return Taken(
            None,
            shadowed,
            held=tuple(line for one in apart for line in one.held),
            granted={bucket: count for one in apart for bucket, count in one.granted.items()},
        )

    async def end(
        self,
        request_id: str,
        held: Sequence[str] | None,
        *,
        carried_out: bool,
        now: Instant,  # noqa: ARG002 - leases go by the store's clock
    ) -> None:
        record = request_key(request_id)
        kind = "r"
        if held is None:
            kind = "g"
            known = await self._state.run(_OVER, [record], [OUTRUN_S * 1000])
            held = bytes(known).decode("ascii").split("\n") if known else ()
        if not held:
            return
        if not self._state.is_cluster:
            await self._end(held, request_id, not carried_out, [kind, record])
            return
        await self._end([line for line in held if line[0] == "s"], request_id, quotas=False)
        # Only now: were it forgotten first, a call that fails would leave slots that nobody knows of.
        if await self._forget(request_id, kind) and not carried_out:
            await self._end([line for line in held if line[0] == "q"], request_id, quotas=True)

    async def look(self, demands: Sequence[Demand], now: Instant) -> list[Used]:
        found: dict[int, int] = {}
        for group in _by_hash_slot(demands) if self._state.is_cluster else [demands]:
            keys = [_key(demand) for demand in group]
            answer = await self._state.run(_LOOK, keys, [self._now_us(now), _said(group)])
            found |= {id(demand): int(used) for demand, used in zip(group, answer, strict=True)}
        return [Used(found[id(demand)], _most(demand)) for demand in demands]

    # -- one script each -------------------------------------------------------------------------------------------

    async def _take(self, demands: Sequence[Demand], request_id: str, now: Instant, record_ms: int) -> Any:
        arguments: list[str | int] = [self._now_us(now), _said(demands), request_id, record_ms]
        keys = [_key(demand) for demand in demands]
        return await self._state.run(_TAKE, [*keys, request_key(request_id)] if record_ms else keys, arguments)

    async def _record(self, holding: Sequence[Demand], request_id: str, now: Instant) -> bool:
        """Whether the request is over already."""
        if not holding:
            return False
        arguments: list[str | int] = [self._now_us(now), _said(holding), _record_ms(holding)]
        arguments += [_key(demand) for demand in holding]
        return bool(await self._state.run(_RECORD, [request_key(request_id)], arguments))

    async def _forget(self, request_id: str, kind: str = "r") -> bool:
        """Whether anything was still held."""
        return bool(await self._state.run(_GIVE_BACK, [request_key(request_id)], [request_id, 0, kind, 0, 0]))

    async def _end(self, held: Sequence[str], request_id: str, quotas: bool, record: Sequence[str] = ()) -> None:
        """`record`: its letter and key, where one script reaches all."""
        lines = [line.split(" ") for line in held]
        groups: dict[str, list[list[str]]] = {}
        for line in lines:
            groups.setdefault(hash_tag(line[1]) if self._state.is_cluster else "", []).append(line)
        for group in groups.values():
            arguments: list[str | int] = [request_id, int(quotas)]
            keys = [line[1] for line in group]
            if record:
                keys.insert(0, record[1])
                arguments += [record[0], 0, 0]
            for kind, _, *numbers in group:
                arguments += [kind, *(numbers or (0, 0))]
            await self._state.run(_GIVE_BACK, keys, arguments)

    async def _undo(self, group: Sequence[Demand], taken: Taken, request_id: str) -> None:
        if not taken.admitted:
            return  # this hash slot's script took nothing
        keys: list[str] = []
        arguments: list[str | int] = [request_id, 1]
        for demand in group:
            if isinstance(demand, Tokens) and not demand.count_refused and demand not in taken.shadowed:
                keys.append(_key(demand))
                arguments += _returned(demand, taken.granted.get(demand.bucket, demand.cost))
        for line in taken.held:
            kind, key, *numbers = line.split(" ")
            keys.append(key)
            arguments += [kind, *(numbers or (0, 0))]
        if keys:
            await self._state.run(_GIVE_BACK, keys, arguments)

    def _now_us(self, now: Instant) -> int:
        return max(1, now.monotonic_ns // 1000) if self._clock_of_caller else 0


def _taken(demands: Sequence[Demand], answer: Any) -> Taken:
    waits, granted, held = answer
    refused, shadowed = judge(demands, [_seconds(wait) for wait in waits])
    batches: dict[BucketKey, int] = {
        demand.bucket: int(count)
        for demand, count in zip(demands, granted, strict=True)
        if isinstance(demand, Tokens) and demand.batch > 1
    }
    lines = bytes(held).decode("ascii").split("\n") if held else []
    return Taken(refused, shadowed, held=tuple(lines), granted=batches if refused is None else {})


def _by_hash_slot(demands: Sequence[Demand]) -> list[list[Demand]]:
    groups: dict[str, list[Demand]] = {}
    for demand in demands:
        groups.setdefault(limit_slot(demand.key), []).append(demand)
    return list(groups.values())


def _record_ms(demands: Sequence[Demand]) -> int:
    """As long as a slot's lease; for quotas alone, as long as a request may last."""
    if all(isinstance(demand, Tokens) for demand in demands):
        return 0
    leases = [demand.lease_s for demand in demands if isinstance(demand, Slot)]
    return max(leases, default=_QUOTA_KNOWN_S) * 1000


_QUOTA_KNOWN_S = 300


def _key(demand: Demand) -> str:
    if isinstance(demand, Tokens):
        return bucket_key(*demand.bucket)
    return slots_key(demand.key) if isinstance(demand, Slot) else quota_key(demand.key)


def _said(demands: Sequence[Demand]) -> str:
    return ",".join(_words(demand) for demand in demands)


def _words(demand: Demand) -> str:
    enforced = int(demand.enforced)
    if isinstance(demand, Tokens):
        rate, counted = demand.rate, int(demand.count_refused)
        return f"t,{enforced},{rate.tokens},{rate.per_s},{rate.burst},{demand.cost},{demand.batch},{counted}"
    if isinstance(demand, Slot):
        return f"s,{enforced},{demand.max},{demand.lease_s * 1000},0,0,0,0"
    assert isinstance(demand, Quota)
    return f"q,{enforced},{demand.max},{demand.cost},{demand.day_begins_s},0,0,0"


def _returned(demand: Tokens, count: int) -> list[str | int]:
    token = demand.rate.per_s * _US_PER_S
    return ["t", count * token, demand.rate.burst * token]


def _most(demand: Demand) -> int:
    if isinstance(demand, Tokens):
        return demand.rate.burst
    assert isinstance(demand, Slot | Quota)
    return demand.max


def _seconds(wait_us: Any) -> int:
    return -(-int(wait_us) // _US_PER_S)
