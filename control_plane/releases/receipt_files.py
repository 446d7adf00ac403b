"""Owns receipts on disk: one file for each time that a release was over, written once."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path

from control_plane.releases.exposures import Exposures
from control_plane.releases.runner import ReleaseRunner
from control_plane.releases.store import Release, ReleaseStore
from paymesh.payments.releases.history import end_of
from paymesh.payments.releases.receipt import receipt
from paymesh.payments.releases.state import OVER

EVERY_S = 5
_LOG = logging.getLogger(__name__)


class ReceiptFiles:
    """`folder`/NAME.SECONDS.md; the seconds are those of its end."""

    def __init__(self, folder: Path, store: ReleaseStore, runner: ReleaseRunner, exposures: Exposures) -> None:
        self._folder = folder
        self._store = store
        self._runner = runner
        self._exposures = exposures
        self._known: dict[str, Release] = {}

    async def run(self) -> None:
        """Write what is missing, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.write()

    async def write(self) -> None:
        """Once the last exchanges are counted. What cannot be written now is tried again the next time."""
        ended = {name: one for name, one in self._runner.releases.items() if one.state.phase in OVER}
        self._known = {name: one for name, one in self._known.items() if name in ended}
        for name, release in ended.items():
            if self._known.get(name) == release or self._exposures.counting(name):
                continue
            try:
                await self._write(release)
            except (OSError, sqlite3.Error) as error:
                fields = {"release": name, "error": type(error).__name__}
                _LOG.error("no receipt written", extra={"fields": fields})
            else:
                self._known[name] = release

    async def _write(self, release: Release) -> None:
        entries = await asyncio.to_thread(self._store.history, release.plan.name)
        end = end_of(entries)
        if end is None:
            return  # begun again meanwhile
        file = self._folder / f"{release.plan.name}.{end.at_s}.md"
        if not file.exists():
            text = receipt(release.plan, entries, await self._exposures.of(release))
            await asyncio.to_thread(_written, file, text)


def _written(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)
