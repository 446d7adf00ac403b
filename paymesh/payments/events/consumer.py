"""Owns handing events to a consumer: each at least once, in their order, and none forgotten that it could not take.

What fails is tried again, with growing pauses; after the last try it is set aside as a dead letter, and what stands
behind it goes on. A group is one consumer at a time: two at once would each be given everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from paymesh.payments.events.log import EventLog, Stored

PAUSES_S = (0.5, 1.0, 2.0)
"""Between the tries of one event."""
BATCH = 200

Take = Callable[[Stored], Awaitable[str | None]]
"""None: taken for good; else why not, without what the event holds."""


@dataclass(frozen=True, slots=True)
class Delivered:
    taken: int
    buried: int


async def deliver(log: EventLog, group: str, take: Take) -> Delivered:
    """Everything that stands behind the group's position now. The position follows every batch, and every dead letter:
    after a crash the events since are given again. Raises Unavailable."""
    taken = buried = 0
    while stored := await log.read(await log.position(group), BATCH):
        for one in stored:
            error = await _try(take, one)
            if error is None:
                taken += 1
                continue
            await log.bury(group, one, error, len(PAUSES_S) + 1)
            await log.commit(group, one.position)
            buried += 1
        await log.commit(group, stored[-1].position)
    return Delivered(taken, buried)


async def deliver_dead(log: EventLog, group: str, take: Take) -> Delivered:
    """The group's dead letters once more, each tried once. Raises Unavailable."""
    taken = still = 0
    for one in await log.buried(group):
        error = await take(one.stored)
        if error is None:
            await log.unbury(group, one.stored.event.id)
            taken += 1
        else:
            await log.bury(group, one.stored, error, one.tries + 1)
            still += 1
    return Delivered(taken, still)


async def _try(take: Take, stored: Stored) -> str | None:
    error = await take(stored)
    for pause_s in PAUSES_S:
        if error is None:
            return None
        await asyncio.sleep(pause_s)
        error = await take(stored)
    return error
