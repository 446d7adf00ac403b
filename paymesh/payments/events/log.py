"""Owns the contract of whoever keeps the events.

Two things are promised to each caller. What was appended is durable when the call returns. And one order goes through
one channel: an attempt is recorded only if no earlier one of its order may have been taken by another channel, which is
decided where the attempts are kept, so that an empty shared store forgets nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from paymesh.payments.events.types import Attempted, Ended, Event, Notified, OfflineRecorded, Result

START = "0"
"""The position before the first event."""


@dataclass(frozen=True, slots=True)
class Known:
    """An attempt as it stands. `result` None: nobody has told its end."""

    attempted: Attempted
    result: Result | None

    @property
    def certain(self) -> bool:
        return self.result not in (None, Result.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Stored:
    """An event, and where it stands: positions grow, in an order that the store alone understands."""

    position: str
    event: Event


@dataclass(frozen=True, slots=True)
class Buried:
    """A dead letter: an event that a consumer could not take."""

    stored: Stored
    error: str
    tries: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """An attempt that is recorded without being asked for its order's channel."""

    event: Attempted

    @property
    def id(self) -> str:
        return self.event.id


class EventLog(Protocol):
    """Every method raises Unavailable; then what it was to write may or may not have been written."""

    async def attempt(self, event: Attempted) -> str | None:
        """Record that a payment or refund is about to leave, and answer None; or answer the channel that its order may
        have been taken through, another one than the event's: then nothing is recorded. ValueError: the `attempt_id`
        was used before."""
        ...

    async def adopt(self, event: Attempted) -> bool:
        """Record an attempt that has left already, whatever channel its order follows; False: it was there."""
        ...

    async def end(self, event: Ended) -> bool:
        """Record how an attempt ended; whether that was news. The first certain end stays, UNKNOWN gives way to it.
        Without effect for an attempt that was never recorded."""
        ...

    async def notify(self, event: Notified) -> bool:
        """Record a notification; False: it was there."""
        ...

    async def record(self, event: OfflineRecorded) -> OfflineRecorded | None:
        """Record a payment that was taken elsewhere, and answer None; or answer the one that stands under its
        merchant's reference, whatever that says: then nothing is recorded."""
        ...

    async def recorded(self, merchant: str, reference: str) -> OfflineRecorded | None:
        """What stands under a merchant's reference."""
        ...

    async def unresolved(self, limit: int = 1000) -> Sequence[Known]:
        """Attempts without a certain end, oldest first, also those still under way."""
        ...

    async def overdue(self, now_us: int, limit: int = 1000) -> Sequence[Attempted]:
        """Attempts whose end nobody told in time, not even that it is unknown."""
        ...

    async def of_order(self, merchant: str, order_no: str) -> Sequence[Known]:
        """Every attempt of an order, oldest first."""
        ...

    async def read(self, after: str, limit: int = 1000) -> Sequence[Stored]:
        """What stands after a position, in order."""
        ...

    async def position(self, group: str) -> str:
        """Of a consumer group: everything up to there was taken. START for a new one."""
        ...

    async def commit(self, group: str, position: str) -> None:
        """Also backwards: what follows is delivered again."""
        ...

    async def bury(self, group: str, stored: Stored, error: str, tries: int) -> None:
        """Set an event aside that the group could not take: the group goes on behind it."""
        ...

    async def buried(self, group: str) -> Sequence[Buried]: ...

    async def unbury(self, group: str, event_id: str) -> None:
        """It was taken after all."""
        ...

    async def prepare(self) -> None:
        """Make ready what it needs. NotDurable: the store would lose what it was given."""
        ...

    async def close(self) -> None: ...
