"""Owns how many calls to the table are under way at once, and the connections that carry them.

A call that its caller gave up keeps its place until it has really ended: a table that hangs holds so many places and no
more. Refuses a queue without end. Callers bring the deadline (`asyncio.timeout`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from paymesh.payments.denial import Unavailable
from paymesh.payments.merchant_table.rows import Connection

T = TypeVar("T")
PAUSE_S = 0.25
"""After a failed attempt to connect; until then calls fail at once."""
_JITTER = 0.25  # of the pause: many gateways must not come back in step
_CLOSE_S = 1.0


class Lane:
    """At most `width` calls at once and `queue` waiting. `calls` counts those that reached a connection."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], width: int, queue: int) -> None:
        self._connect = connect
        self._places = asyncio.Semaphore(width)
        self._queue = queue
        self._waiting = 0
        self._idle: list[Connection] = []
        self._busy: dict[asyncio.Task[object], Connection | None] = {}
        self._down_until_s = 0.0
        self._closed = False
        self.calls = 0

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What `work` makes of a connection. Raises Unavailable."""
        if self._closed:
            raise Unavailable("merchant table: closed")
        if self._places.locked() and self._waiting >= self._queue:
            raise Unavailable("merchant table: too many look-ups at once")
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        task = asyncio.create_task(self._serve(work))
        self._busy[task] = None
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._abandon(task)
            raise

    async def close(self) -> None:
        """End every connection. Calls are Unavailable afterwards."""
        self._closed = True
        for task in self._busy:
            self._abandon(task)
        if self._busy:
            _, hanging = await asyncio.wait(list(self._busy), timeout=_CLOSE_S)
            for task in hanging:
                task.cancel()
        while self._idle:
            await self._idle.pop().close()

    async def _serve(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        connection = await self._connected()
        task = asyncio.current_task()
        assert task is not None
        self._busy[task] = connection
        try:
            self.calls += 1
            return await work(connection)
        finally:
            if connection.alive and not self._closed:
                self._idle.append(connection)
            else:
                await connection.close()

    async def _connected(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
            await connection.close()
        if time.monotonic() < self._down_until_s:
            raise Unavailable("merchant table: not reachable a moment ago")
        try:
            return await self._connect()
        except Unavailable:
            pause_s = PAUSE_S * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
            self._down_until_s = time.monotonic() + pause_s
            raise

    def _abandon(self, task: asyncio.Task[object]) -> None:
        connection = self._busy.get(task)
        if connection is not None:
            connection.abandon()

    def _ended(self, task: asyncio.Task[object]) -> None:
        del self._busy[task]
        self._places.release()
        if not task.cancelled():
            task.exception()  # its caller may be gone
