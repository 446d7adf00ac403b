"""Owns how much went to each version while a release was under way: counted on, on disk, every few seconds.

What the process counted since it began is in memory; a crash loses what came since the last writing, some seconds.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable

from control_plane.releases.runner import ReleaseRunner
from control_plane.releases.store import Release, ReleaseStore
from paymesh.payments.releases.exposure import Exposure
from paymesh.payments.releases.plan import Plan
from paymesh.payments.releases.state import OVER

EVERY_S = 5
Totals = Callable[[str, str], Exposure]
"""Of a service and a version: what this process has seen."""
_NOTHING = Exposure()
_LOG = logging.getLogger(__name__)


class Exposures:
    """By release and version."""

    def __init__(self, store: ReleaseStore, runner: ReleaseRunner, totals: Totals) -> None:
        self._store = store
        self._runner = runner
        self._totals = totals
        self._written: dict[tuple[str, str], Exposure] = {}
        """By service and version: the totals of this process that stand on disk, or that no release counts."""
        self._counting: set[str] = set()

    def begin(self, plan: Plan) -> None:
        """What was seen before does not count."""
        for version in (plan.stable, plan.target):
            self._written[plan.service, version] = self._totals(plan.service, version)

    async def of(self, release: Release) -> dict[str, Exposure]:
        """By version, with what is not on disk yet."""
        plan = release.plan
        found = await asyncio.to_thread(self._store.exposure, plan.name)
        fresh = {} if release.state.phase in OVER else self._fresh(plan)
        return {one: found.get(one, _NOTHING) + fresh.get(one, _NOTHING) for one in (plan.stable, plan.target)}

    async def run(self) -> None:
        """Write every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.write()
            except sqlite3.Error as error:
                _LOG.error("exposure not written", extra={"fields": {"error": type(error).__name__}})

    async def write(self) -> None:
        """Once more for those that are over since the last time: the access log is a second behind."""
        under_way = {name for name, release in self._runner.releases.items() if release.state.phase not in OVER}
        for name in under_way | self._counting:
            plan = self._runner.get(name).plan
            fresh = {version: more for version, more in self._fresh(plan).items() if more.requests}
            if fresh:
                await asyncio.to_thread(self._store.add_exposure, name, fresh)
                for version, more in fresh.items():
                    self._written[plan.service, version] = self._written.get((plan.service, version), _NOTHING) + more
        self._counting = under_way

    def _fresh(self, plan: Plan) -> dict[str, Exposure]:
        return {
            version: self._totals(plan.service, version) - self._written.get((plan.service, version), _NOTHING)
            for version in (plan.stable, plan.target)
        }
