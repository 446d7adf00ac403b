"""Owns reading the table from an SQLite file, in threads: a slow disk must not stop the event loop.

The file is opened read-only, and opened again when another one has taken its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

from paymesh.payments.denial import Unavailable
from paymesh.payments.merchant_table.rows import MAX_CLAIMANTS, MAX_DOCUMENT_CHARS, Row, row_of, stamp_of
from paymesh.payments.policy.callers import KeyRef

T = TypeVar("T")

_KEYS = """
    (select json_group_array(json_array(kind, name, claimants)) from (
        select cast(own.kind as text) as kind, cast(own.name as text) as name,
            (select count(*) from merchant_keys o where o.kind = own.kind and o.name = own.name) as claimants
        from merchant_keys own where own.merchant_id = m.id order by own.kind, own.name))"""
_FIND = f"""
    select m.id, m.revision, {_KEYS}, case when length(m.document) <= {MAX_DOCUMENT_CHARS} then m.document end
    from merchant_keys k join merchants m on m.id = k.merchant_id
    where k.kind = ? and k.name = ? order by m.id limit {MAX_CLAIMANTS + 1}"""  # noqa: S608 - constants
_STAMPS = f"select m.id, m.revision, {_KEYS} from merchants m where m.id in (select value from json_each(?))"  # noqa: S608


class SqliteConnection:
    """`executor` runs what blocks. `busy_s`: how long a writer's lock is waited for, seconds."""

    def __init__(self, path: Path, busy_s: float, executor: Executor) -> None:
        self._path = path
        self._busy_s = busy_s
        self._executor = executor
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    @property
    def alive(self) -> bool:
        return True  # whatever fails is opened again by the next call

    async def find(self, ref: KeyRef) -> Sequence[Row]:
        rows = await self._in_thread(lambda: self._read(_FIND, (str(ref.kind), ref.name)))
        return [row_of(*row) for row in rows]

    async def stamps(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        rows = await self._in_thread(lambda: self._read(_STAMPS, (json.dumps(ids),)))
        return {merchant_id: stamp_of(revision, keys) for merchant_id, revision, keys in rows}

    def abandon(self) -> None:
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(sqlite3.ProgrammingError):  # closed in this very moment
                connection.interrupt()

    async def close(self) -> None:
        await self._in_thread(self._close)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def _read(self, query: str, arguments: tuple[str, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._open().execute(query, arguments).fetchall()
        except (sqlite3.Error, OSError) as error:
            self._close()
            raise Unavailable(f"merchant table: {type(error).__name__}") from error

    def _open(self) -> sqlite3.Connection:
        status = os.stat(self._path)
        file = (status.st_dev, status.st_ino)
        if self._connection is not None and file != self._file:
            self._close()
        if self._connection is None:
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=self._busy_s,
                isolation_level=None,
                check_same_thread=False,  # one call at a time, each in some thread
            )
            # One row that is not UTF-8 must not fail a query that reads others as well.
            connection.text_factory = _text
            self._connection, self._file = connection, file
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
