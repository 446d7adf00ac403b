"""Owns the events in an SQLite file: the embedded default, for the processes of one machine.

Write-ahead log and `synchronous = FULL`: a commit is on the disk when it returns. One process writes at a time, so
events are numbered in the order of their commits, and a reader who goes on behind a number misses none.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from paymesh.payments.denial import Unavailable
from paymesh.payments.events.group_commit import GroupCommit
from paymesh.payments.events.log import START, Adopted, Buried, Known, Stored
from paymesh.payments.events.open_log import EventUrlError, Observer
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

T = TypeVar("T")
BUSY_S = 5.0
"""How long another process's transaction is waited for."""
DEADLINE_S = 2.0
_SCHEMA_VERSION = 1
_SCHEMA = """
create table events (
    position integer primary key autoincrement,
    id text not null unique,
    attempt_id text,
    document text not null
);
create index events_of_attempt on events (attempt_id) where attempt_id is not null;
create table attempts (
    attempt_id text primary key,
    merchant text not null,
    operation text not null,
    order_no text not null,
    channel text,
    ends_by_us integer not null,
    result text
) without rowid;
create index attempts_of_order on attempts (merchant, order_no);
create index attempts_open on attempts (ends_by_us) where result is null or result = 'unknown';
create table consumers (name text primary key, position integer not null) without rowid;
create table dead_letters (
    name text not null, event_id text not null, position integer not null, error text not null, tries integer not null,
    primary key (name, event_id)
) without rowid;
"""
# Of the order's attempts that may have been taken, the first one's channel. What never left was taken by nobody.
_EARLIER = """
select a.channel from attempts a join events e on e.id = a.attempt_id || ':attempted'
where a.merchant = ? and a.order_no = ? and a.operation = ? and (a.result is null or a.result <> 'unsent')
order by e.position limit 1"""
_KNOWN = """
select e.document, a.result from attempts a join events e on e.id = a.attempt_id || ':attempted' where """


class SqliteLog:
    """Implements `EventLog`. `path` is made if it is not there, with its folder."""

    def __init__(self, path: Path, deadline_s: float = DEADLINE_S, observer: Observer | None = None) -> None:
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="events-write")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="events-read")
        self._writer = _Connection(path, writes=True)
        self._reader = _Connection(path, writes=False)
        self._commits: GroupCommit[Event | Adopted, str | bool] = GroupCommit(self._write, deadline_s, observer)

    async def prepare(self) -> None:
        await self._in_thread(self._writing, self._writer.prepare)

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
        select = "select document from events where id = ?"
        row = await self._read(lambda db: db.execute(select, (offline_id(merchant, reference),)).fetchone())
        return None if row is None else record_of(row[0])

    async def unresolved(self, limit: int = 1000) -> Sequence[Known]:
        where = "a.result is null or a.result = 'unknown' order by a.ends_by_us limit ?"
        return await self._read(lambda db: _known(db, where, limit))

    async def overdue(self, now_us: int, limit: int = 1000) -> Sequence[Attempted]:
        where = "a.result is null and a.ends_by_us < ? order by a.ends_by_us limit ?"
        return [known.attempted for known in await self._read(lambda db: _known(db, where, now_us, limit))]

    async def of_order(self, merchant: str, order_no: str) -> Sequence[Known]:
        where = "a.merchant = ? and a.order_no = ? order by e.position"
        return await self._read(lambda db: _known(db, where, merchant, order_no))

    async def read(self, after: str, limit: int = 1000) -> Sequence[Stored]:
        select = "select position, document from events where position > ? order by position limit ?"
        rows = await self._read(lambda db: db.execute(select, (int(after), limit)).fetchall())
        return [Stored(str(position), decode(document)) for position, document in rows]

    async def position(self, group: str) -> str:
        select = "select position from consumers where name = ?"
        row = await self._read(lambda db: db.execute(select, (group,)).fetchone())
        return START if row is None else str(row[0])

    async def commit(self, group: str, position: str) -> None:
        insert = "insert into consumers values (?, ?) on conflict (name) do update set position = excluded.position"
        await self._change(insert, group, int(position))

    async def bury(self, group: str, stored: Stored, error: str, tries: int) -> None:
        insert = """insert into dead_letters values (?, ?, ?, ?, ?)
            on conflict (name, event_id) do update set error = excluded.error, tries = excluded.tries"""
        await self._change(insert, group, stored.event.id, int(stored.position), error, tries)

    async def buried(self, group: str) -> Sequence[Buried]:
        select = """select e.position, e.document, d.error, d.tries
            from dead_letters d join events e on e.id = d.event_id where d.name = ? order by e.position"""
        rows = await self._read(lambda db: db.execute(select, (group,)).fetchall())
        return [Buried(Stored(str(row[0]), decode(row[1])), row[2], row[3]) for row in rows]

    async def unbury(self, group: str, event_id: str) -> None:
        await self._change("delete from dead_letters where name = ? and event_id = ?", group, event_id)

    async def count_after(self, group: str) -> int:
        """How many events the group has yet to take."""
        select = """select count(*) from events
            where position > coalesce((select position from consumers where name = ?), 0)"""
        return int((await self._read(lambda db: db.execute(select, (group,)).fetchone()))[0])

    async def prune(self, group: str) -> None:
        """Remove what the group has taken: for a file that is only a place to wait in."""
        await self._in_thread(self._writing, lambda: self._writer.run(lambda db: _prune(db, group)))

    async def close(self) -> None:
        await self._commits.close()
        await self._in_thread(self._writing, self._writer.close)
        await self._in_thread(self._reading, self._reader.close)
        self._writing.shutdown(wait=False)
        self._reading.shutdown(wait=False)

    async def _write(self, events: Sequence[Event | Adopted]) -> Sequence[str | bool]:
        return await self._in_thread(
            self._writing, lambda: self._writer.run(lambda db: [_append(db, event) for event in events])
        )

    async def _change(self, statement: str, *arguments: str | int) -> None:
        await self._in_thread(self._writing, lambda: self._writer.run(lambda db: db.execute(statement, arguments)))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._in_thread(self._reading, lambda: self._reader.run(work))

    async def _in_thread(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, work)


class _Connection:
    """Opened when it is needed, and again after a failure. `writes`: what is run is one transaction."""

    def __init__(self, path: Path, *, writes: bool) -> None:
        self._path = path
        self._writes = writes
        self._connection: sqlite3.Connection | None = None

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """In one thread at a time. Raises Unavailable."""
        try:
            connection = self._open()
            if self._writes:
                connection.execute("begin immediate")
            found = work(connection)
            if self._writes:
                connection.execute("commit")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise Unavailable(f"events: {type(error).__name__}: {error}") from error
        except BaseException:
            self.close()  # takes back what was not committed
            raise
        return found

    def prepare(self) -> None:
        """Raises Unavailable; EventUrlError for a place where no file can be."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Several processes may start at once: SQLite's own timeout does not wait where the journal's mode changes.
            with self._path.with_name(self._path.name + ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._open().execute("pragma journal_mode = wal")
                self.run(_make_tables)
        except OSError as error:
            raise EventUrlError(f"{self._path}: {error.strerror or type(error).__name__}") from error
        except sqlite3.Error as error:
            self.close()
            raise Unavailable(f"events: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            opened = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._connection = opened
            opened.execute("pragma synchronous = full")
        return self._connection


def _make_tables(db: sqlite3.Connection) -> None:
    (version,) = db.execute("pragma user_version").fetchone()
    if version == _SCHEMA_VERSION:
        return
    if version != 0:
        raise Unavailable(f"events: the file is of version {version}, known is {_SCHEMA_VERSION}")
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute(f"pragma user_version = {_SCHEMA_VERSION}")


def _append(db: sqlite3.Connection, appended: Event | Adopted) -> str | bool:
    """Whether it is new; or the channel that an attempt's order may have been taken through, or the document of the
    record that stands under a reference."""
    event = appended.event if isinstance(appended, Adopted) else appended
    if isinstance(event, Attempted):
        if db.execute("select 1 from attempts where attempt_id = ?", (event.attempt_id,)).fetchone():
            return False
        earlier = db.execute(_EARLIER, (event.merchant, event.order_no, event.operation)).fetchone()
        asked = not isinstance(appended, Adopted)
        if asked and earlier is not None and earlier[0] is not None and earlier[0] != event.channel:
            return str(earlier[0])
        values = (event.attempt_id, event.merchant, event.operation, event.order_no, event.channel, event.ends_by_us)
        db.execute("insert into attempts values (?, ?, ?, ?, ?, ?, null)", values)
    elif isinstance(event, Ended):
        row = db.execute("select result from attempts where attempt_id = ?", (event.attempt_id,)).fetchone()
        if row is None or not may_follow(row[0], event.result):
            return False
        db.execute("update attempts set result = ? where attempt_id = ?", (event.result, event.attempt_id))
    attempt_id = event.attempt_id if isinstance(event, Attempted | Ended) else None
    insert = "insert into events (id, attempt_id, document) values (?, ?, ?) on conflict (id) do nothing"
    new = db.execute(insert, (event.id, attempt_id, encode(event))).rowcount > 0
    if not new and isinstance(event, OfflineRecorded):
        return str(db.execute("select document from events where id = ?", (event.id,)).fetchone()[0])
    return new


def _prune(db: sqlite3.Connection, group: str) -> None:
    taken = "position <= (select position from consumers where name = ?)"
    db.execute(f"delete from events where {taken}", (group,))  # noqa: S608 - a constant
    db.execute("delete from attempts where attempt_id || ':attempted' not in (select id from events)")


def may_follow(stands: str | None, result: Result) -> bool:
    """Whether an end is news to an attempt that stands so."""
    return stands is None or (stands == Result.UNKNOWN and result is not Result.UNKNOWN)


def _known(db: sqlite3.Connection, where: str, *arguments: str | int) -> list[Known]:
    rows = db.execute(_KNOWN + where, arguments).fetchall()
    return [known_of(document, result) for document, result in rows]


def record_of(found: str | bool) -> OfflineRecorded | None:
    """The record whose document a store answered; None for True: there was none."""
    if not isinstance(found, str):
        return None
    event = decode(found)
    assert isinstance(event, OfflineRecorded)
    return event


def known_of(document: str, result: str | None) -> Known:
    attempted = decode(document)
    assert isinstance(attempted, Attempted)
    return Known(attempted, None if result is None else Result(result))
