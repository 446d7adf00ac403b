"""Owns the events in PostgreSQL, for many processes. Imported only where it is asked for.

Every batch takes one advisory lock, so that batches are numbered in the order of their commits: a reader who goes on
behind a number misses none. What a batch decides (is an attempt new, was its order taken by another channel, is an end
news) it decides behind that lock, in a few statements whatever its size. Refuses a server that would lose commits
(`fsync` or `full_page_writes` off); `synchronous_commit` is switched on for its own sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]

from paymesh.payments.denial import Unavailable
from paymesh.payments.events.group_commit import GroupCommit
from paymesh.payments.events.log import START, Adopted, Buried, Known, Stored
from paymesh.payments.events.open_log import NotDurable, Observer
from paymesh.payments.events.sqlite_log import known_of, may_follow, record_of
from paymesh.payments.events.types import (
    Attempted,
    Ended,
    Event,
    Notified,
    OfflineRecorded,
    Result,
    decode,
    encode,
    offline_id,
)
from paymesh.payments.secrets import Secret

T = TypeVar("T")
DEADLINE_S = 2.0
_CONNECT_S = 2.0
_LOCK = 0x7061796D65736801  # "paymesh" and a one
_SCHEMA = """
create table if not exists paymesh_events (
    position bigint generated always as identity primary key,
    id text not null unique,
    attempt_id text,
    document text not null
);
create table if not exists paymesh_attempts (
    attempt_id text primary key,
    merchant text not null,
    operation text not null,
    order_no text not null,
    channel text,
    ends_by_us bigint not null,
    result text
);
create index if not exists paymesh_attempts_of_order on paymesh_attempts (merchant, order_no);
create index if not exists paymesh_attempts_open on paymesh_attempts (ends_by_us)
    where result is null or result = 'unknown';
create table if not exists paymesh_consumers (name text primary key, position bigint not null);
create table if not exists paymesh_dead_letters (
    name text not null, event_id text not null, error text not null, tries integer not null,
    primary key (name, event_id)
);
"""
_STANDING = "select attempt_id, result from paymesh_attempts where attempt_id = any($1::text[])"
# Of each order's attempts that may have been taken, the first one's channel. What never left was taken by nobody.
_EARLIER = """
select distinct on (o.merchant, o.order_no, o.operation) o.merchant, o.order_no, o.operation, a.channel
from unnest($1::text[], $2::text[], $3::text[]) as o (merchant, order_no, operation)
join paymesh_attempts a using (merchant, order_no, operation)
join paymesh_events e on e.id = a.attempt_id || ':attempted'
where a.result is distinct from 'unsent'
order by o.merchant, o.order_no, o.operation, e.position"""
_DOCUMENT = "select document from paymesh_events where id = $1"
_DOCUMENTS = "select id, document from paymesh_events where id = any($1::text[])"
_ADD_ATTEMPTS = """
insert into paymesh_attempts (attempt_id, merchant, operation, order_no, channel, ends_by_us)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])"""
_SET_RESULTS = """
update paymesh_attempts a set result = n.result from unnest($1::text[], $2::text[]) as n (attempt_id, result)
where a.attempt_id = n.attempt_id"""
_ADD_EVENTS = """
insert into paymesh_events (id, attempt_id, document)
select id, attempt_id, document from unnest($1::text[], $2::text[], $3::text[])
    with ordinality as n (id, attempt_id, document, number) order by number
on conflict (id) do nothing returning id"""
_KNOWN = """
select e.document, a.result
from paymesh_attempts a join paymesh_events e on e.id = a.attempt_id || ':attempted' where """
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
_Order = tuple[str, str, str]


class PostgresLog:
    """Implements `EventLog`. `dsn`: postgresql://..."""

    def __init__(self, dsn: Secret, deadline_s: float = DEADLINE_S, observer: Observer | None = None) -> None:
        self._writer = _Session(dsn, deadline_s, _prepare)
        self._reader = _Session(dsn, deadline_s)
        self._commits: GroupCommit[Event | Adopted, str | bool] = GroupCommit(self._write, deadline_s, observer)

    async def prepare(self) -> None:
        """Also what every later connection does: a server that was away at the start, or was restarted with other
        settings, is looked at when it is back."""

        async def work(_: Any) -> None: ...

        await self._writer.run(work)

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
        rows = await self._fetch(_DOCUMENT, offline_id(merchant, reference))
        return record_of(rows[0][0]) if rows else None

    async def unresolved(self, limit: int = 1000) -> Sequence[Known]:
        return await self._known("a.result is null or a.result = 'unknown' order by a.ends_by_us limit $1", limit)

    async def overdue(self, now_us: int, limit: int = 1000) -> Sequence[Attempted]:
        where = "a.result is null and a.ends_by_us < $1 order by a.ends_by_us limit $2"
        return [known.attempted for known in await self._known(where, now_us, limit)]

    async def of_order(self, merchant: str, order_no: str) -> Sequence[Known]:
        return await self._known("a.merchant = $1 and a.order_no = $2 order by e.position", merchant, order_no)

    async def read(self, after: str, limit: int = 1000) -> Sequence[Stored]:
        select = "select position, document from paymesh_events where position > $1 order by position limit $2"
        return [Stored(str(row[0]), decode(row[1])) for row in await self._fetch(select, int(after), limit)]

    async def position(self, group: str) -> str:
        rows = await self._fetch("select position from paymesh_consumers where name = $1", group)
        return str(rows[0][0]) if rows else START

    async def commit(self, group: str, position: str) -> None:
        insert = """insert into paymesh_consumers values ($1, $2)
            on conflict (name) do update set position = excluded.position"""
        await self._fetch(insert, group, int(position))

    async def bury(self, group: str, stored: Stored, error: str, tries: int) -> None:
        insert = """insert into paymesh_dead_letters values ($1, $2, $3, $4)
            on conflict (name, event_id) do update set error = excluded.error, tries = excluded.tries"""
        await self._fetch(insert, group, stored.event.id, error, tries)

    async def buried(self, group: str) -> Sequence[Buried]:
        select = """select e.position, e.document, d.error, d.tries from paymesh_dead_letters d
            join paymesh_events e on e.id = d.event_id where d.name = $1 order by e.position"""
        rows = await self._fetch(select, group)
        return [Buried(Stored(str(row[0]), decode(row[1])), row[2], row[3]) for row in rows]

    async def unbury(self, group: str, event_id: str) -> None:
        await self._fetch("delete from paymesh_dead_letters where name = $1 and event_id = $2", group, event_id)

    async def close(self) -> None:
        await self._commits.close()
        await self._writer.close()
        await self._reader.close()

    async def _known(self, where: str, *arguments: str | int) -> list[Known]:
        return [known_of(row[0], row[1]) for row in await self._fetch(_KNOWN + where, *arguments)]

    async def _fetch(self, statement: str, *arguments: str | int) -> Sequence[Any]:
        async def work(connection: Any) -> Sequence[Any]:
            rows: Sequence[Any] = await connection.fetch(statement, *arguments)
            return rows

        return await self._reader.run(work)

    async def _write(self, events: Sequence[Event | Adopted]) -> Sequence[str | bool]:
        async def work(connection: Any) -> Sequence[str | bool]:
            async with connection.transaction():
                await connection.execute(f"select pg_advisory_xact_lock({_LOCK})")
                return await _append(connection, events)

        return await self._writer.run(work)


async def _prepare(connection: Any) -> None:
    for setting in ("fsync", "full_page_writes"):
        if await connection.fetchval("select current_setting($1)", setting) != "on":
            raise NotDurable(f"PostgreSQL has {setting} off: it would lose commits")
    async with connection.transaction():
        await connection.execute(f"select pg_advisory_xact_lock({_LOCK})")
        await connection.execute(_SCHEMA)


async def _append(connection: Any, appended: Sequence[Event | Adopted]) -> Sequence[str | bool]:
    """Of each: whether it is new; or the channel that an attempt's order may have been taken through, or the document
    of the record that stands under a reference."""
    adopted = {one.event.attempt_id for one in appended if isinstance(one, Adopted)}
    events = [one.event if isinstance(one, Adopted) else one for one in appended]
    named = list({event.attempt_id for event in events if isinstance(event, Attempted | Ended)})
    standing = {row[0]: row[1] for row in await connection.fetch(_STANDING, named)} if named else {}
    orders = list({_order(event) for event in events if isinstance(event, Attempted)})
    earlier: dict[_Order, str | None] = {}
    if orders:
        rows = await connection.fetch(_EARLIER, *(list(column) for column in zip(*orders, strict=True)))
        earlier = {(row[0], row[1], row[2]): row[3] for row in rows}
    references = [event.id for event in events if isinstance(event, OfflineRecorded)]
    told = {row[0]: row[1] for row in await connection.fetch(_DOCUMENTS, references)} if references else {}
    verdicts: list[str | bool] = []
    attempts: list[Attempted] = []
    results: dict[str, Result] = {}
    kept: list[Event] = []
    for event in events:
        verdict: str | bool = True
        if isinstance(event, Attempted):
            taken = earlier.get(_order(event))
            if event.attempt_id in standing:
                verdict = False
            elif taken is not None and taken != event.channel and event.attempt_id not in adopted:
                verdict = taken
            else:
                standing[event.attempt_id] = None
                earlier.setdefault(_order(event), event.channel)
                attempts.append(event)
        elif isinstance(event, Ended):
            verdict = event.attempt_id in standing and may_follow(standing[event.attempt_id], event.result)
            if verdict:
                standing[event.attempt_id] = results[event.attempt_id] = event.result
        elif isinstance(event, OfflineRecorded):
            verdict = told.get(event.id, True)
            told.setdefault(event.id, encode(event))
        verdicts.append(verdict)
        if verdict is True:
            kept.append(event)
    if attempts:
        columns = zip(
            *((a.attempt_id, a.merchant, str(a.operation), a.order_no, a.channel, a.ends_by_us) for a in attempts),
            strict=True,
        )
        await connection.execute(_ADD_ATTEMPTS, *(list(column) for column in columns))
    if results:
        await connection.execute(_SET_RESULTS, list(results), [str(result) for result in results.values()])
    ids = [event.attempt_id if isinstance(event, Attempted | Ended) else None for event in kept]
    texts = [encode(event) for event in kept]
    added = {row[0] for row in await connection.fetch(_ADD_EVENTS, [event.id for event in kept], ids, texts)}
    return [event.id in added if verdict is True else verdict for event, verdict in zip(events, verdicts, strict=True)]


def _order(event: Attempted) -> _Order:
    return event.merchant, event.order_no, str(event.operation)


class _Session:
    """One connection, one call at a time; made when it is needed, and again after a failure."""

    def __init__(self, dsn: Secret, deadline_s: float, prepare: Callable[[Any], Awaitable[None]] | None = None) -> None:
        self._dsn = dsn
        self._deadline_s = deadline_s
        self._prepare = prepare
        self._turn = asyncio.Lock()
        self._connection: Any = None

    async def run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        async with self._turn:
            try:
                async with asyncio.timeout(_CONNECT_S + self._deadline_s):
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await self._connect()
                        if self._prepare is not None:
                            await self._prepare(self._connection)
                    return await work(self._connection)
            except (*_FAILURES, ValueError) as error:  # ValueError: a DSN that cannot be read
                self._abandon()
                # The driver's text may quote the DSN, so not even the cause goes along.
                raise Unavailable(f"events: {type(error).__name__}") from None
            except BaseException:
                self._abandon()
                raise

    async def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(*_FAILURES):
                await self._connection.close(timeout=1.0)

    def _abandon(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connect(self) -> Any:
        settings = {
            "application_name": "paymesh events",
            "statement_timeout": str(round(self._deadline_s * 1000)),
            "synchronous_commit": "on",
        }
        return await asyncpg.connect(self._dsn.reveal().decode(), timeout=_CONNECT_S, server_settings=settings)
