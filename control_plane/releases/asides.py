"""Owns work that goes on beside the releases: at most one piece a release, its result taken once by whoever started
it. What goes wrong in it is logged and has no result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class Asides(Generic[T]):
    """By release's name. `token`: what the work was begun for, such as a step."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[int, asyncio.Task[T]]] = {}

    def start(self, name: str, token: int, work: Coroutine[Any, Any, T]) -> None:
        """Nothing is started while an earlier piece is at work, or its result was not taken."""
        if name in self._tasks:
            work.close()
        else:
            self._tasks[name] = token, asyncio.create_task(work)

    def under_way(self, name: str) -> bool:
        return name in self._tasks

    def take(self, name: str) -> tuple[int, T] | None:
        """The token and the result, once there is one."""
        found = self._tasks.get(name)
        if found is None or not found[1].done():
            return None
        token, task = self._tasks.pop(name)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _LOG.error("beside a release", exc_info=error, extra={"fields": {"release": name}})
        return None if task.cancelled() or error is not None else (token, task.result())

    def forget(self, name: str) -> None:
        """Whatever is at work for this one has no result."""
        found = self._tasks.pop(name, None)
        if found is not None:
            found[1].cancel()

    def close(self) -> None:
        for name in list(self._tasks):
            self.forget(name)
