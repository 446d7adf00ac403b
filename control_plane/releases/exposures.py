"""Owns how much went to each version while a release was under way: counted on, on disk, every second.

What the process counted since it began is in memory; a crash loses what came since the last writing.
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

EVERY_S = 1
Totals = Callable[[str, str], Exposure]
"""Of a service and a version: what this process has seen."""
_NOTHING = Exposure()
_LAST_WRITINGS = 3
_LOG = logging.getLogger(__name__)


class Exposures:
    """By release and version."""

    def __init__(self, store: ReleaseStore, runner: ReleaseRunner, totals: Totals) -> None:
        self._store = store
        self._runner = runner
        self._totals = totals
        self._written: dict[str, dict[str, Exposure]] = {}
        """By release and version: the totals of this process that stand on disk, or that the release does not count."""
        under_way = [name for name, release in runner.releases.items() if release.state.phase not in OVER]
        self._writings = dict.fromkeys(under_way, _LAST_WRITINGS)
        """How many are still to come, by release."""

    def begin(self, plan: Plan) -> None:
        """A run of its own, though the last one of this name may be over just now: what was seen does not count."""
        self._written[plan.name] = {one: self._totals(plan.service, one) for one in (plan.stable, plan.target)}
        self._writings[plan.name] = _LAST_WRITINGS

    def go_on(self, plan: Plan) -> None:
        """The same run is under way again: what was seen while it was over does not count."""
        if plan.name not in self._writings:
            self.begin(plan)

    def counting(self, name: str) -> bool:
        """It is under way, or over so lately that its last exchanges are still to come."""
        return name in self._writings

    async def of(self, release: Release) -> dict[str, Exposure]:
        """By version, with what is not on disk yet."""
        plan = release.plan
        found = await asyncio.to_thread(self._store.exposure, plan.name)
        fresh = self._fresh(plan) if plan.name in self._writings else {}
        return {one: found.get(one, _NOTHING) + fresh.get(one, _NOTHING) for one in (plan.stable, plan.target)}

    async def run(self) -> None:
        """Write every second, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.write()
            except sqlite3.Error as error:
                _LOG.error("exposure not written", extra={"fields": {"error": type(error).__name__}})

    async def write(self) -> None:
        """Twice more for those that are over: the access log is a second behind."""
        for name in list(self._writings):
            release = self._runner.get(name)
            plan = release.plan
            if release.state.phase not in OVER:
                self._writings[name] = _LAST_WRITINGS + 1
            written, fresh = self._written.setdefault(name, {}), self._fresh(plan)
            if fresh:
                await asyncio.to_thread(self._store.add_exposure, name, fresh)
                for version, more in fresh.items():
                    written[version] = written.get(version, _NOTHING) + more
            self._writings[name] -= 1
            if not self._writings[name]:
                del self._writings[name], self._written[name]

    def _fresh(self, plan: Plan) -> dict[str, Exposure]:
        """By version. Nothing of one that was forgotten: the policy has it no longer, and its totals are none."""
        written = self._written.get(plan.name, {})
        found = {
            one: self._totals(plan.service, one) - written.get(one, _NOTHING) for one in (plan.stable, plan.target)
        }
        return {version: more for version, more in found.items() if more.requests > 0}
