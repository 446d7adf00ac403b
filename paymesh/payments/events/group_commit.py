"""Owns writing together what comes at the same time: while one transaction is committed, the next one gathers.

A caller that gives up does not stop what it asked for: it may have been written, and is, if it can be.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from paymesh.payments.denial import Unavailable

W = TypeVar("W")
R = TypeVar("R")
MAX_TOGETHER = 500
MAX_WAITING = 10_000
_CLOSE_S = 5.0


class GroupCommit(Generic[W, R]):
    """`write` takes what gathered and gives a result for each, or raises for all. Without a pause of its own: the
    common commit is as quick as a single one."""

    def __init__(
        self,
        write: Callable[[Sequence[W]], Awaitable[Sequence[R]]],
        deadline_s: float,
        observer: Callable[[int, float, bool], None] | None = None,
    ) -> None:
        self._write = write
        self._observer = observer
        self._deadline_s = deadline_s
        self._waiting: deque[tuple[W, asyncio.Future[R]]] = deque()
        self._writing: asyncio.Task[None] | None = None

    async def submit(self, work: W) -> R:
        """Raises Unavailable: too many wait, `write` failed, or the deadline passed: it may be written all the same."""
        if len(self._waiting) >= MAX_WAITING:
            raise Unavailable("events: too many wait to be written")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        # Its failure is told to nobody, if its caller went away.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._waiting.append((work, future))
        if self._writing is None:
            # In a context of its own: it is not the first caller's work alone, and must not use up what that may wait.
            loop = asyncio.get_running_loop()
            self._writing = loop.create_task(self._run(), context=contextvars.Context())
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.shield(future)
        except TimeoutError:
            raise Unavailable("events: not written in time") from None

    async def close(self) -> None:
        """Write what waits."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=_CLOSE_S)

    async def _run(self) -> None:
        try:
            while self._waiting:
                together = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_TOGETHER))]
                began = time.monotonic()
                try:
                    results = await self._write([work for work, _ in together])
                except Exception as error:
                    self._observe(len(together), began, taken=False)
                    for _, future in together:
                        future.set_exception(error)
                else:
                    self._observe(len(together), began, taken=True)
                    for (_, future), result in zip(together, results, strict=True):
                        future.set_result(result)
        finally:
            self._writing = None

    def _observe(self, count: int, began: float, *, taken: bool) -> None:
        if self._observer is not None:
            self._observer(count, time.monotonic() - began, taken)
