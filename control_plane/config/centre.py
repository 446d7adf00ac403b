"""Owns applying a policy: checked whole, recorded, then published; what services or Envoys refuse is taken back.

The documents in force stand in a folder too, where `PolicySource` reads them as it reads an operator's files: so what
happens to a policy after this does not depend on where it came from.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable

from control_plane.config.store import NONE, Applied, ConfigStore
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.policy.source import OnReload, PolicySource
from paymesh.server.policy_resource import Documents
from paymesh.server.policy_subscription import PolicyCache

_LOG = logging.getLogger(__name__)


class NotApplied(Exception):  # noqa: N818 - it names what happened
    """It is no policy, or was refused; the message has every problem."""


class UnknownVersion(Exception):  # noqa: N818 - it names what was asked for
    """There is no such version."""


def seeded(store: ConfigStore, folder: PolicyCache, first: Callable[[], Documents]) -> None:
    """What is in force stands in the folder; into an empty store goes `first`, which is not asked for otherwise: files
    that nobody reads any more may be gone. Blocking. Raises PolicyErrors."""
    current = store.current()
    if current is None:
        current = store.record(first(), NONE, "paymesh", "first start")
    folder.accept(current.documents)


class ConfigCentre:
    """One change at a time. `on_reload`: what brings a policy into force, or refuses it."""

    def __init__(self, store: ConfigStore, folder: PolicyCache, source: PolicySource, on_reload: OnReload) -> None:
        self._store = store
        self._folder = folder
        self._source = source
        self._on_reload = on_reload
        self._lock = asyncio.Lock()

    async def apply(
        self, documents: Documents, if_version: str, actor: str, reason: str, *, dry_run: bool
    ) -> tuple[Applied | None, Applied | None]:
        """What was recorded (None: only checked), and what was in force. Raises NotApplied, ConfigConflict,
        ValueError (no reason)."""
        # Shielded with its lock: a caller that gives up may not leave what is recorded and not published, nor let the
        # next change in before this one ended.
        task = asyncio.create_task(self._apply(documents, if_version, actor, reason, dry_run))
        task.add_done_callback(_ended)
        return await asyncio.shield(task)

    async def _apply(
        self, documents: Documents, if_version: str, actor: str, reason: str, dry_run: bool
    ) -> tuple[Applied | None, Applied | None]:
        async with self._lock:
            before = await asyncio.to_thread(self._store.current)
            await asyncio.to_thread(self._store.compare, if_version)
            try:
                await asyncio.to_thread(self._folder.check, documents)
            except PolicyErrors as error:
                raise NotApplied(self._folder.told(error)) from None
            if dry_run:
                return None, before
            begun = await asyncio.to_thread(self._store.begin, documents, if_version, actor, reason)
            await self._publish(begun, before)
        fields = {"version": begun.version, "before": begun.before, "actor": actor, "reason": reason}
        _LOG.info("configuration applied", extra={"fields": fields})
        return dataclasses.replace(begun, refused=None), before

    async def _publish(self, begun: Applied, before: Applied | None) -> None:
        """Bring it into force, or what was before again. Raises NotApplied, and whatever went wrong."""
        try:
            await asyncio.to_thread(self._folder.accept, begun.documents)
            await self._source.poll(self._on_reload)
            why = "\n".join(str(problem) for problem in self._source.last_problems)
            if not why:
                await asyncio.to_thread(self._store.finish, begun.number)
                return
        except Exception:
            # It stays unfinished in the store: the folder, which is followed, may not go on to publish it.
            await self._take_back(before)
            raise
        await asyncio.to_thread(self._store.refuse, begun.number, why)
        await self._take_back(before)
        raise NotApplied(why)

    async def _take_back(self, before: Applied | None) -> None:
        if before is not None:
            await asyncio.to_thread(self._folder.accept, before.documents)
            await self._source.poll(self._on_reload)

    async def history(self, limit: int) -> list[Applied]:
        """Newest first."""
        return await asyncio.to_thread(self._store.history, limit)

    async def current(self) -> Applied | None:
        return await asyncio.to_thread(self._store.current)

    async def get(self, version: str) -> Applied:
        """Raises UnknownVersion."""
        found = await asyncio.to_thread(self._store.get, version)
        if found is None:
            raise UnknownVersion(f"no version {version}, or several begin so")
        return found


def _ended(task: asyncio.Task[tuple[Applied | None, Applied | None]]) -> None:
    """Asks for its error: where the caller has gone, nobody else does, and it is in the history."""
    if not task.cancelled():
        task.exception()
