"""Owns asking whether cached merchants still stand as they were read: many in one query, whoever waits for them.

While one query is under way, the next batch gathers; so re-checks have few connections, however many merchants call.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from paymesh.payments.denial import Unavailable
from paymesh.payments.merchant_table.cache import CachedMerchant
from paymesh.payments.merchant_table.compile_row import file_states
from paymesh.payments.merchant_table.lane import Lane
from paymesh.payments.merchant_table.rows import Connection

WIDTH = 2
"""Queries at once; so one that hangs does not hold up the others."""
_BATCH = 256


class Rechecks:
    """`executor` looks at files. `lane` must have WIDTH places."""

    def __init__(
        self, lane: Lane, executor: Executor, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lane = lane
        self._executor = executor
        self._timeout_s = timeout_s
        self._clock = clock
        self._asked: deque[CachedMerchant] = deque()
        self._answers: dict[CachedMerchant, asyncio.Future[float | None]] = {}
        self._runners: set[asyncio.Task[None]] = set()

    async def stands_since(self, merchant: CachedMerchant) -> float | None:
        """When the query began that found it unchanged; None if it changed or is gone. Raises Unavailable."""
        answer = self._answers.get(merchant)
        if answer is None:
            answer = self._answers[merchant] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_retrieved)
            self._asked.append(merchant)
            if len(self._runners) < WIDTH:
                runner = asyncio.create_task(self._run())
                self._runners.add(runner)
                runner.add_done_callback(self._runners.discard)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.shield(answer)
        except TimeoutError as error:
            raise Unavailable("merchant table: no answer in time") from error

    async def _run(self) -> None:
        while self._asked:
            batch = [self._asked.popleft() for _ in range(min(_BATCH, len(self._asked)))]
            asked_at_s = self._clock()
            try:
                async with asyncio.timeout(self._timeout_s):
                    standing = await self._lane.run(partial(self._look, batch))
            except TimeoutError:
                self._fail(batch, Unavailable("merchant table: no answer in time"))
            except Exception as error:  # whatever it is belongs to those who wait, and the next batch is not theirs
                self._fail(batch, error)
            else:
                for merchant in batch:
                    self._answers.pop(merchant).set_result(asked_at_s if merchant in standing else None)

    async def _look(self, batch: Sequence[CachedMerchant], connection: Connection) -> set[CachedMerchant]:
        stamps = await connection.stamps([merchant.row.merchant.id for merchant in batch])
        standing = {merchant for merchant in batch if stamps.get(merchant.row.merchant.id) == merchant.row.stamp}
        with_files = [merchant for merchant in standing if merchant.row.files]
        if with_files:
            loop = asyncio.get_running_loop()
            standing.difference_update(await loop.run_in_executor(self._executor, _with_changed_files, with_files))
        return standing

    def _fail(self, batch: Sequence[CachedMerchant], error: Exception) -> None:
        for merchant in batch:
            self._answers.pop(merchant).set_exception(error)


def _with_changed_files(merchants: Sequence[CachedMerchant]) -> list[CachedMerchant]:
    return [merchant for merchant in merchants if file_states(merchant.row.files) != merchant.row.files]


def _retrieved(answer: asyncio.Future[float | None]) -> None:
    if not answer.cancelled():
        answer.exception()  # whoever waited may be gone
