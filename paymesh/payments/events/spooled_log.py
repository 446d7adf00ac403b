"""Owns a bounded file on this machine in front of an event log that may be away: what routes that say so cannot write
there waits in it, and follows when the log is back.

Refuses more than it may hold: then payments are refused, as without it. Both services of a machine share the file, so
that the end of an attempt that waits there finds it. While the log is away, what it knows of earlier attempts is not
known: which channel an order follows is then told by shared state, and by this file for what waits in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from paymesh.payments.denial import Unavailable
from paymesh.payments.events.consumer import deliver
from paymesh.payments.events.log import Buried, EventLog, Known, Stored
from paymesh.payments.events.sqlite_log import SqliteLog
from paymesh.payments.events.types import Attempted, Ended, Notified, OfflineRecorded

DRAIN_EVERY_S = 1.0
MAX_EVENTS = 100_000
_GROUP = "drain"
_LOG = logging.getLogger(__name__)


class SpooledLog:
    """Implements `EventLog`: of the log behind it, but for what waits. `may_wait`: whether a route's attempts may."""

    def __init__(
        self, log: EventLog, spool: SqliteLog, may_wait: Callable[[str], bool], max_events: int = MAX_EVENTS
    ) -> None:
        self._log = log
        self._spool = spool
        self._may_wait = may_wait
        self._max_events = max_events
        self._draining: asyncio.Task[None] | None = None
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Events that wait, as they were counted last."""
        return self._waiting

    async def prepare(self) -> None:
        await self._spool.prepare()
        self._waiting = await self._spool.count_after(_GROUP)
        self._draining = asyncio.create_task(self._drain())
        await self._log.prepare()

    async def attempt(self, event: Attempted) -> str | None:
        if self._waiting:
            # An earlier attempt of the order may be on its way.
            for known in await self._spool.of_order(event.merchant, event.order_no):
                one = known.attempted
                if one.operation is event.operation and one.channel not in (None, event.channel):
                    return one.channel
        try:
            return await self._log.attempt(event)
        except Unavailable:
            if not self._may_wait(event.route):
                raise
        await self._refuse_too_many()
        channel = await self._spool.attempt(event)
        self._waiting += 1
        return channel

    async def end(self, event: Ended) -> bool:
        try:
            if await self._log.end(event):
                return True
        except Unavailable:
            if await self._spool.end(event):
                return True
            raise
        return await self._spool.end(event)

    async def notify(self, event: Notified) -> bool:
        try:
            return await self._log.notify(event)
        except Unavailable:
            if not self._may_wait(event.route):
                raise
        await self._refuse_too_many()
        self._waiting += 1
        return await self._spool.notify(event)

    async def record(self, event: OfflineRecorded) -> OfflineRecorded | None:
        """Never waits: whether a reference was used before, only the log knows, and nothing has left that would be
        forgotten."""
        return await self._log.record(event)

    async def recorded(self, merchant: str, reference: str) -> OfflineRecorded | None:
        return await self._log.recorded(merchant, reference)

    async def adopt(self, event: Attempted) -> bool:
        return await self._log.adopt(event)

    async def drain_once(self) -> int:
        """Hand on what waits; how much it was. Raises Unavailable."""
        done = await deliver(self._spool, _GROUP, self._hand_on)
        await self._spool.prune(_GROUP)
        self._waiting = await self._spool.count_after(_GROUP)
        return done.taken

    async def _drain(self) -> None:
        while True:
            try:
                handed_on = await self.drain_once()
                if handed_on:
                    _LOG.warning("events that waited were handed on", extra={"fields": {"events": handed_on}})
            except Unavailable:
                pass  # still away
            await asyncio.sleep(DRAIN_EVERY_S)

    async def _hand_on(self, stored: Stored) -> None:
        event = stored.event
        if isinstance(event, Attempted):
            await self._log.adopt(event)
        elif isinstance(event, Ended):
            await self._log.end(event)
        elif isinstance(event, Notified):
            await self._log.notify(event)

    async def _refuse_too_many(self) -> None:
        self._waiting = await self._spool.count_after(_GROUP)
        if self._waiting >= self._max_events:
            raise Unavailable(f"events: {self._max_events} wait already")

    async def unresolved(self, limit: int = 1000) -> Sequence[Known]:
        return await self._log.unresolved(limit)

    async def overdue(self, now_us: int, limit: int = 1000) -> Sequence[Attempted]:
        return await self._log.overdue(now_us, limit)

    async def of_order(self, merchant: str, order_no: str) -> Sequence[Known]:
        return await self._log.of_order(merchant, order_no)

    async def read(self, after: str, limit: int = 1000) -> Sequence[Stored]:
        return await self._log.read(after, limit)

    async def position(self, group: str) -> str:
        return await self._log.position(group)

    async def commit(self, group: str, position: str) -> None:
        await self._log.commit(group, position)

    async def bury(self, group: str, stored: Stored, error: str, tries: int) -> None:
        await self._log.bury(group, stored, error, tries)

    async def buried(self, group: str) -> Sequence[Buried]:
        return await self._log.buried(group)

    async def unbury(self, group: str, event_id: str) -> None:
        await self._log.unbury(group, event_id)

    async def close(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
            await asyncio.gather(self._draining, return_exceptions=True)
        await self._spool.close()
        await self._log.close()
