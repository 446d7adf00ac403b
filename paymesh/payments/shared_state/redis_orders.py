"""Owns orders in shared state: a hash a key, changed only by scripts, which the server runs one at a time.

The scripts decide as `InProcessOrders` does; one suite (tests/contract) holds both to the same sentences. Times are the
caller's. A key's lifetime is counted by the store from its own now: its clock need not be right.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from paymesh.payments.orders import (
    Attempt,
    BeginAnswer,
    Begun,
    Finish,
    OrderRecord,
    OrderTerms,
    Settled,
    check_attempts,
    remembered_until_s,
)
from paymesh.payments.shared_state.client import Script, SharedState
from paymesh.payments.shared_state.keys import order_key
from paymesh.payments.shared_state.redis_nonces import KEPT_LONGER_S

# Fields of the hash: f fingerprint, a attempt, t terms, c channel, e end, l lease until, x expires; with p before it
# the same of the attempt that a repeat replaced. A channel or terms that are None are '-', others begin with '+'.
# s is what is settled of the order itself, so no attempt replaces it.
_FIELDS = ("f", "a", "t", "c", "e", "l", "x", "s")
_BEGIN = Script(
    """
local FIELDS = {'f', 'a', 't', 'c', 'e', 'l', 'x', 's'}
local PREVIOUS = {'pf', 'pa', 'pt', 'pc', 'pe', 'pl', 'px'}
local NEW, REPEAT, IN_PROGRESS, CONFLICT = 0, 1, 2, 3
local now, kept_longer = tonumber(ARGV[1]), tonumber(ARGV[2])

local function verdict_on(held, fingerprint)
  if held[5] == 'refused' then return NEW end
  if held[1] ~= fingerprint then return CONFLICT end
  if held[5] == '' and now <= tonumber(held[6]) then return IN_PROGRESS end
  return REPEAT
end

local earlier, verdicts, begun, settled = {}, {}, NEW, false
for i, key in ipairs(KEYS) do
  local held = redis.call('HMGET', key, unpack(FIELDS))
  verdicts[i] = NEW
  if held[1] and now <= tonumber(held[7]) then
    earlier[i] = held
    verdicts[i] = verdict_on(held, ARGV[6 * i - 3])
    if held[8] and settled ~= 'paid' then settled = held[8] end
  end
  if verdicts[i] > begun then begun = verdicts[i] end
end

local standing = false
for i = 1, #KEYS do
  if not standing and earlier[i] and verdicts[i] == begun then standing = earlier[i] end
end
if begun > REPEAT then return {begun, standing, settled} end

for i, key in ipairs(KEYS) do
  local fingerprint, attempt, terms, channel, lease, expires = unpack(ARGV, 6 * i - 3, 6 * i + 2)
  local held = earlier[i]
  if held and verdicts[i] == REPEAT then
    fingerprint, terms, channel = held[1], held[3], held[4]
  elseif held and held[4] ~= '-' then
    channel = held[4]
  elseif standing and standing[4] ~= '-' then
    channel = standing[4]
  end
  if held then
    if tonumber(held[7]) > tonumber(expires) then expires = held[7] end
    for n, field in ipairs(PREVIOUS) do redis.call('HSET', key, field, held[n]) end
  else
    redis.call('DEL', key)
  end
  redis.call('HSET', key, 'f', fingerprint, 'a', attempt, 't', terms, 'c', channel, 'e', '', 'l', lease, 'x', expires)
  redis.call('EXPIRE', key, string.format('%.0f', tonumber(expires) - now + kept_longer))
end
return {begun, standing, settled}
"""
)
_FINISH = Script(
    """
local FIELDS = {'f', 'a', 't', 'c', 'e', 'l', 'x'}
local PREVIOUS = {'pf', 'pa', 'pt', 'pc', 'pe', 'pl', 'px'}
for _, key in ipairs(KEYS) do
  local held = redis.call('HMGET', key, 'a', 'e')
  if held[1] == ARGV[1] then
    if held[2] == '' and ARGV[2] == 'unsent' then
      local previous = redis.call('HMGET', key, unpack(PREVIOUS))
      if previous[1] then
        for n, field in ipairs(FIELDS) do redis.call('HSET', key, field, previous[n]) end
        redis.call('HDEL', key, unpack(PREVIOUS))
      else
        redis.call('DEL', key)
      end
    elseif held[2] == '' or (held[2] == 'done' and ARGV[2] == 'refused') then
      redis.call('HSET', key, 'e', ARGV[2])
    end
  end
end
return 1
"""
)
_SETTLE = Script(
    """
local held = redis.call('HMGET', KEYS[1], 'x', 's')
if held[1] and tonumber(ARGV[2]) <= tonumber(held[1]) and held[2] ~= 'paid' then
  redis.call('HSET', KEYS[1], 's', ARGV[1])
end
return 1
"""
)
_VERDICTS = (Begun.NEW, Begun.REPEAT, Begun.IN_PROGRESS, Begun.CONFLICT)


class RedisOrders:
    """Implements `OrderStore`.

    A server that loses its newest writes (a failover of an asynchronous replica, a restart without `appendfsync
    always`) may forget an attempt: the event log's copy of order and channel is what then holds.
    """

    def __init__(self, state: SharedState) -> None:
        self._state = state

    async def begin(self, attempts: Sequence[Attempt], now_s: int) -> BeginAnswer:
        check_attempts(attempts)
        arguments: list[str | bytes | int] = [now_s, KEPT_LONGER_S]
        for attempt in attempts:
            arguments += _arguments(attempt, now_s)
        keys = [order_key(attempt.owner, attempt.key) for attempt in attempts]
        answer = await self._state.run(_BEGIN, keys, arguments)
        begun, standing, settled = cast(tuple[int, list[bytes | None] | None, bytes | None], answer)
        return BeginAnswer(
            _VERDICTS[begun],
            None if standing is None else _record(standing),
            None if settled is None else Settled(_text(settled)),
        )

    async def finish(self, owner: str, keys: Sequence[str], attempt_id: str, finish: Finish) -> None:
        if keys:
            names = [order_key(owner, key) for key in keys]
            await self._state.run(_FINISH, names, [_bytes(attempt_id), finish.value])

    async def settle(self, owner: str, key: str, settled: Settled, now_s: int) -> None:
        await self._state.run(_SETTLE, [order_key(owner, key)], [settled.value, now_s])

    async def find(self, owner: str, key: str, now_s: int) -> OrderRecord | None:
        held = cast(list[bytes | None], await self._state.call("HMGET", order_key(owner, key), *_FIELDS))
        if held[0] is None or int(held[6] or 0) < now_s:
            return None
        return _record(held)


def _arguments(attempt: Attempt, now_s: int) -> list[str | bytes | int]:
    return [
        _bytes(attempt.fingerprint),
        _bytes(attempt.attempt_id),
        _optional(_terms_text(attempt.terms)),
        _optional(attempt.channel),
        now_s + attempt.lease_s,
        remembered_until_s(attempt, now_s),
    ]


def _record(held: Sequence[bytes | None]) -> OrderRecord:
    """Of the fields in the order of `_FIELDS`; the last one may not be there."""
    fingerprint, attempt_id, *optional = (value or b"" for value in held)
    terms, channel = _text_or_none(optional[0]), _text_or_none(optional[1])
    finished, settled = _text(optional[2]), _text(optional[5]) if len(optional) > 5 else ""
    return OrderRecord(
        fingerprint=_text(fingerprint),
        attempt_id=_text(attempt_id),
        terms=None if terms is None else _terms(terms),
        channel=channel,
        finished=Finish(finished) if finished else None,
        settled=Settled(settled) if settled else None,
    )


def _terms(text: str) -> OrderTerms:
    return OrderTerms(*json.loads(text))


def _terms_text(terms: OrderTerms | None) -> str | None:
    if terms is None:
        return None
    return json.dumps([terms.amount, terms.currency, terms.app_id, terms.seller_id, terms.begun_at_s])


def _optional(text: str | None) -> bytes:
    return b"-" if text is None else b"+" + _bytes(text)


def _text_or_none(value: bytes) -> str | None:
    return None if value == b"-" else _text(value[1:])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")
