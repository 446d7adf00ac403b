"""Owns telling a store what it could not take at first: again and again, beside whoever had to say it.

Refuses to hold anybody up, and to gather without end: what comes beyond MAX_WAITING is given up at once.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine

from paymesh.payments.denial import Unavailable

AGAIN_S = (0.1, 0.2, 0.5, 1.0, *(2.0,) * 30)
"""Pauses between the tries: a minute in all."""
MAX_WAITING = 20_000


class Tries:
    """`given_up` is told of each call that no try succeeded with."""

    def __init__(self, given_up: Callable[[], None]) -> None:
        self._given_up = given_up
        self._beside: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Calls that wait."""
        return len(self._beside)

    async def tell(self, call: Callable[[], Awaitable[object]]) -> None:
        """Once now, and if the store raises Unavailable again beside."""
        try:
            await call()
        except Unavailable:
            if len(self._beside) < MAX_WAITING:
                self._start(self._later(call))
            else:
                self._given_up()

    def tell_beside(self, call: Callable[[], Awaitable[object]]) -> None:
        """Return at once."""
        self._start(self.tell(call))

    async def close(self) -> None:
        """Say what can be said at once."""
        if self._beside:
            await asyncio.wait(self._beside, timeout=AGAIN_S[0])
        for task in self._beside:
            task.cancel()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        # In a context of its own: a check's budget of waiting is spent.
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _later(self, call: Callable[[], Awaitable[object]]) -> None:
        for pause_s in AGAIN_S:
            await asyncio.sleep(pause_s)
            try:
                await call()
            except Unavailable:
                continue
            return
        self._given_up()
