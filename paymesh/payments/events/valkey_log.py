"""Owns the events in a Valkey or Redis stream, for many processes. Imported only where it is asked for.

One script for each batch decides and writes, so a batch is whole or not there. Refuses at the start, and whenever it
connects anew, a server that could lose what it confirmed: `appendonly yes`, `appendfsync always` and no eviction are
demanded, and no replica may be attached: a failover would lose what only the master has. All keys are in one hash slot.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from paymesh.payments.denial import Unavailable
from paymesh.payments.events.group_commit import GroupCommit
from paymesh.payments.events.log import START, Adopted, Buried, Known, Stored
from paymesh.payments.events.open_log import EventUrlError, NotDurable, Observer
from paymesh.payments.events.sqlite_log import known_of, record_of
from paymesh.payments.events.types import (
    Attempted,
    Ended,
    Event,
    Notified,
    OfflineRecorded,
    decode,
    encode,
    offline_id,
)
from paymesh.payments.secrets import Secret
from paymesh.payments.shared_state.client import Script, SharedState
from paymesh.payments.shared_state.keys import event_key, order_events_key

T = TypeVar("T")
DEADLINE_S = 2.0
_STREAM, _OPEN, _UNKNOWN, _NOTICES, _GROUPS = (
    event_key(name) for name in ("stream", "open", "unknown", "notices", "groups")
)
# KEYS: stream, open, unknown, notices, then for each event its attempt's key and its order's (attempts only; else the
# attempt's again). ARGV: for each event a letter (a, d adopted, e, n, o offline), its id, the attempt's id, its
# document, then a: channel, end in us; e: the result, ''; n, o: '', ''. An attempt is a hash: d document, r result,
# o its order's key, c its channel, t its end. In the place of an attempt's key, an offline record has its own, which
# holds its document. An order is two lists: of every attempt, and of `attempt channel` that may have been taken.
# The answer, for each: 1 new, 0 not, or the channel that the order may have been taken through, or the document of the
# record that stands under the reference.
_APPEND = Script(
    """
local function append(document) redis.call('XADD', KEYS[1], '*', 'd', document) end
local answers = {}
for i = 1, (#KEYS - 4) / 2 do
  local kind, id, attempt_id, document, first, second = unpack(ARGV, 6 * i - 5, 6 * i)
  local attempt, order, answer = KEYS[3 + 2 * i], KEYS[4 + 2 * i], 0
  if kind == 'a' or kind == 'd' then
    local taken = redis.call('LINDEX', order .. ':taken', 0)
    local channel = taken and string.match(taken, ' (.*)$')
    if redis.call('EXISTS', attempt) == 1 then
      answer = 0
    elseif kind == 'a' and channel and channel ~= '' and channel ~= first then
      answer = channel
    else
      redis.call('HSET', attempt, 'd', document, 'o', order, 'c', first, 't', second)
      redis.call('RPUSH', order, attempt_id)
      redis.call('RPUSH', order .. ':taken', attempt_id .. ' ' .. first)
      redis.call('ZADD', KEYS[2], second, attempt_id)
      append(document)
      answer = 1
    end
  elseif kind == 'e' then
    local held = redis.call('HMGET', attempt, 'r', 'o', 'c', 't')
    if held[2] and (not held[1] or (held[1] == 'unknown' and first ~= 'unknown')) then
      redis.call('HSET', attempt, 'r', first)
      redis.call('ZREM', KEYS[2], attempt_id)
      if first == 'unknown' then
        redis.call('ZADD', KEYS[3], held[4], attempt_id)
      else
        redis.call('ZREM', KEYS[3], attempt_id)
      end
      -- What never left was taken by nobody.
      if first == 'unsent' then redis.call('LREM', held[2] .. ':taken', 1, attempt_id .. ' ' .. held[3]) end
      append(document)
      answer = 1
    end
  elseif kind == 'o' then
    answer = redis.call('GET', attempt)
    if not answer then
      redis.call('SET', attempt, document)
      append(document)
      answer = 1
    end
  elseif redis.call('SADD', KEYS[4], id) == 1 then
    append(document)
    answer = 1
  end
  answers[i] = answer
end
return answers
"""
)


class ValkeyLog:
    """Implements `EventLog`. Raises EventUrlError for a URL that cannot be used."""

    def __init__(
        self, url: str, deadline_s: float = DEADLINE_S, observer: Observer | None = None, password: Secret | None = None
    ) -> None:
        try:
            self._state = SharedState(url, timeout_s=deadline_s, password=password)
        except ValueError as error:
            raise EventUrlError(str(error)) from error
        if not url.partition("://")[0].isalpha():
            raise EventUrlError("events are kept by one server, not by a cluster or behind sentinels")
        self._safe = False
        self._commits: GroupCommit[Event | Adopted, str | bool] = GroupCommit(self._write, deadline_s, observer)

    async def prepare(self) -> None:
        await self._state.start()
        await self._check_durability()

    async def attempt(self, event: Attempted) -> str | None:
        found = await self._commits.submit(event)
        if found is False:
            raise ValueError(f"attempt {event.attempt_id} was recorded before")
        return found if isinstance(found, str) else None

    async def adopt(self, event: Attempted) -> bool:
        return bool(await self._commits.submit(Adopted(event)))

    async def end(self, event: Ended) -> bool:
        return bool(await self._commits.submit(event))

    async def notify(self, event: Notified) -> bool:
        return bool(await self._commits.submit(event))

    async def record(self, event: OfflineRecorded) -> OfflineRecorded | None:
        return record_of(await self._commits.submit(event))

    async def recorded(self, merchant: str, reference: str) -> OfflineRecorded | None:
        found = await self._ask("GET", event_key(offline_id(merchant, reference)))
        return None if found is None else record_of(_text(found))

    async def unresolved(self, limit: int = 1000) -> Sequence[Known]:
        found = [
            (score, member)
            for key in (_OPEN, _UNKNOWN)
            for member, score in _pairs(await self._ask("ZRANGE", key, 0, limit - 1, "WITHSCORES"))
        ]
        return await self._known([member for _, member in sorted(found)[:limit]])

    async def overdue(self, now_us: int, limit: int = 1000) -> Sequence[Attempted]:
        ids = await self._ask("ZRANGE", _OPEN, "-inf", f"({now_us}", "BYSCORE", "LIMIT", 0, limit)
        return [known.attempted for known in await self._known(ids)]

    async def of_order(self, merchant: str, order_no: str) -> Sequence[Known]:
        keys = [order_events_key(merchant, operation, order_no) for operation in ("pay", "refund")]
        return [known for key in keys for known in await self._known(await self._ask("LRANGE", key, 0, -1))]

    async def read(self, after: str, limit: int = 1000) -> Sequence[Stored]:
        rows = await self._ask("XRANGE", _STREAM, f"({after}", "+", "COUNT", limit)
        return [_stored(row) for row in rows]

    async def position(self, group: str) -> str:
        found = await self._ask("HGET", _GROUPS, group)
        return START if found is None else _text(found)

    async def commit(self, group: str, position: str) -> None:
        await self._ask("HSET", _GROUPS, group, position)

    async def bury(self, group: str, stored: Stored, error: str, tries: int) -> None:
        letter = json.dumps([stored.position, error, tries])
        await self._ask("HSET", _dead(group), stored.event.id, letter)

    async def buried(self, group: str) -> Sequence[Buried]:
        letters = [json.loads(one) for one in await self._ask("HVALS", _dead(group))]
        found = []
        for position, error, tries in sorted(letters, key=lambda one: [int(part) for part in one[0].split("-")]):
            (row,) = await self._ask("XRANGE", _STREAM, position, position)
            found.append(Buried(_stored(row), error, tries))
        return found

    async def unbury(self, group: str, event_id: str) -> None:
        await self._ask("HDEL", _dead(group), event_id)

    async def close(self) -> None:
        await self._commits.close()
        await self._state.close()

    async def _write(self, events: Sequence[Event | Adopted]) -> Sequence[str | bool]:
        keys = [_STREAM, _OPEN, _UNKNOWN, _NOTICES]
        arguments: list[str | int] = []
        for appended in events:
            event = appended.event if isinstance(appended, Adopted) else appended
            attempt = _key(event)
            order = attempt
            words: tuple[str | int, str | int] = ("", "")
            if isinstance(event, Attempted):
                order = order_events_key(event.merchant, event.operation, event.order_no)
                words = (event.channel or "", event.ends_by_us)
            elif isinstance(event, Ended):
                words = (event.result, "")
            attempt_id = event.attempt_id if isinstance(event, Attempted | Ended) else ""
            keys += [attempt, order]
            arguments += [_letter(appended), event.id, attempt_id, encode(event), *words]
        await self._check_durability()
        try:
            answers = await self._state.run(_APPEND, keys, arguments)
        except Unavailable:
            self._safe = False  # it may be another server, or have other settings, when it is back
            raise
        return [_text(answer) if isinstance(answer, bytes) else bool(answer) for answer in answers]

    async def _known(self, ids: Sequence[bytes | str]) -> list[Known]:
        rows = [await self._ask("HMGET", _attempt(_text(one)), "d", "r") for one in ids]
        return [known_of(_text(row[0]), None if row[1] is None else _text(row[1])) for row in rows if row[0]]

    async def _ask(self, *command: str | int) -> Any:
        return await self._state.call(*command)

    async def _check_durability(self) -> None:
        if self._safe:
            return
        found: dict[str, str] = {}
        for name in ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy"):
            pairs = await self._ask("CONFIG", "GET", name)
            found |= {_text(key): _text(value) for key, value in _pairs(pairs)}
        wrong = [
            f"{name} is {found.get(name, 'not told')}, not {wanted}"
            for name, wanted in (("appendonly", "yes"), ("appendfsync", "always"))
            if found.get(name) != wanted
        ]
        if found.get("maxmemory") != "0" and found.get("maxmemory-policy") != "noeviction":
            wrong.append(f"maxmemory-policy is {found.get('maxmemory-policy', 'not told')}, not noeviction")
        replication = _text(await self._ask("INFO", "replication"))
        if "role:master" not in replication or "connected_slaves:0" not in replication:
            wrong.append("it is replicated")
        if wrong:
            raise NotDurable(f"the server would lose events: {'; '.join(wrong)}")
        self._safe = True


def _letter(appended: Event | Adopted) -> str:
    if isinstance(appended, Adopted):
        return "d"
    if isinstance(appended, OfflineRecorded):
        return "o"
    return "a" if isinstance(appended, Attempted) else "e" if isinstance(appended, Ended) else "n"


def _key(event: Event) -> str:
    """Where what is asked about the event stands."""
    if isinstance(event, Notified):
        return _NOTICES
    return event_key(event.id) if isinstance(event, OfflineRecorded) else _attempt(event.attempt_id)


def _attempt(attempt_id: str) -> str:
    return event_key(f"attempt:{attempt_id}")


def _dead(group: str) -> str:
    return event_key(f"dead:{group}")


def _stored(row: Any) -> Stored:
    position, words = row
    fields = dict(_pairs(words))
    return Stored(_text(position), decode(fields[b"d"]))


def _pairs(answer: Any) -> list[tuple[Any, Any]]:
    """A map of the protocol's third version, or the second's flat list, or one of pairs."""
    if isinstance(answer, dict):
        return list(answer.items())
    if answer and isinstance(answer[0], (list, tuple)):
        return [tuple(pair) for pair in answer]
    return list(zip(answer[::2], answer[1::2], strict=True))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
