"""Owns releases on disk: plan, state and history in one SQLite file. A change of state is written with its history or
not at all, and only over the state that it was decided on. Refuses two releases of one service at a time."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from control_plane.sqlite import open_database, transaction
from paymesh.payments.releases.codec import decode_plan, decode_state, encode_plan, encode_state
from paymesh.payments.releases.exposure import Exposure
from paymesh.payments.releases.history import Entry
from paymesh.payments.releases.plan import Plan
from paymesh.payments.releases.state import OVER, State

_SCHEMA = """
CREATE TABLE IF NOT EXISTS releases (
    name TEXT PRIMARY KEY, service TEXT NOT NULL, plan TEXT NOT NULL, state TEXT NOT NULL, over INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_of_a_service ON releases (service) WHERE NOT over;
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, at_s INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    before TEXT, after TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS history_of ON history (name, at_s);
CREATE TABLE IF NOT EXISTS exposure (
    name TEXT NOT NULL, version TEXT NOT NULL, exposure TEXT NOT NULL, PRIMARY KEY (name, version)
) STRICT;
"""


class UnknownRelease(Exception):  # noqa: N818 - it names what was asked for
    """There is no release of this name."""


class ReleaseConflict(Exception):  # noqa: N818 - it names what was found
    """There is another one; the message says which."""


@dataclass(frozen=True, slots=True)
class Release:
    plan: Plan
    state: State


class ReleaseStore:
    """Blocking: call it in a thread. Raises sqlite3.Error."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._database = open_database(file, _SCHEMA)

    def begin(self, release: Release, who: str, what: str, now_s: int) -> None:
        """A new one, or one of the same name whose last run is over. Raises ReleaseConflict."""
        plan, state = release.plan, encode_state(release.state)
        with self._lock, transaction(self._database):
            known = self._database.execute("SELECT over FROM releases WHERE name = ?", (plan.name,)).fetchone()
            if known is not None and not known[0]:
                raise ReleaseConflict(f"release {plan.name} is under way")
            other = self._database.execute(
                "SELECT name FROM releases WHERE service = ? AND NOT over", (plan.service,)
            ).fetchone()
            if other is not None:
                raise ReleaseConflict(f"release {other[0]} of {plan.service} is under way")
            self._database.execute(
                "INSERT INTO releases VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
                " service = excluded.service, plan = excluded.plan, state = excluded.state, over = excluded.over",
                (plan.name, plan.service, encode_plan(plan), state, release.state.phase in OVER),
            )
            self._database.execute("DELETE FROM exposure WHERE name = ?", (plan.name,))
            self._note(plan.name, now_s, who, what, None, state)

    def change(self, name: str, before: State, after: State, who: str, what: str, now_s: int) -> None:
        """Raises ReleaseConflict if `before` is not what stands there, or the service has another release by now."""
        was, becomes = encode_state(before), encode_state(after)
        with self._lock, transaction(self._database):
            try:
                changed = self._database.execute(
                    "UPDATE releases SET state = ?, over = ? WHERE name = ? AND state = ?",
                    (becomes, after.phase in OVER, name, was),
                )
            except sqlite3.IntegrityError:
                raise ReleaseConflict(f"the service of release {name} has another release under way") from None
            if not changed.rowcount:
                raise ReleaseConflict(f"release {name} was changed meanwhile")
            self._note(name, now_s, who, what, was, becomes)

    def all(self) -> dict[str, Release]:
        with self._lock:
            rows = self._database.execute("SELECT name, plan, state FROM releases ORDER BY name").fetchall()
        return {name: Release(decode_plan(plan), decode_state(state)) for name, plan, state in rows}

    def history(self, name: str) -> list[Entry]:
        with self._lock:
            rows = self._database.execute(
                "SELECT at_s, who, what, before, after FROM history WHERE name = ? ORDER BY id", (name,)
            ).fetchall()
        return [
            Entry(at_s, who, what, None if before is None else decode_state(before), decode_state(after))
            for at_s, who, what, before, after in rows
        ]

    def changed_at(self, name: str) -> int:
        """When its state changed last: Unix seconds; 0: there is none."""
        with self._lock:
            row = self._database.execute("SELECT max(at_s) FROM history WHERE name = ?", (name,)).fetchone()
        return row[0] or 0

    def exposure(self, name: str) -> dict[str, Exposure]:
        """What went to each version since the release began."""
        with self._lock:
            rows = self._database.execute("SELECT version, exposure FROM exposure WHERE name = ?", (name,)).fetchall()
        return {version: Exposure(**json.loads(text)) for version, text in rows}

    def add_exposure(self, name: str, more: Mapping[str, Exposure]) -> None:
        """Count on; all versions or none. Only one thread may: what stands there is read first."""
        known = self.exposure(name)
        rows = [
            (name, version, json.dumps(asdict(known[version] + one if version in known else one)))
            for version, one in more.items()
        ]
        with self._lock, transaction(self._database):
            self._database.executemany(
                "INSERT INTO exposure VALUES (?, ?, ?)"
                " ON CONFLICT (name, version) DO UPDATE SET exposure = excluded.exposure",
                rows,
            )

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _note(self, name: str, at_s: int, who: str, what: str, before: str | None, after: str) -> None:
        self._database.execute(
            "INSERT INTO history (name, at_s, who, what, before, after) VALUES (?, ?, ?, ?, ?, ?)",
            (name, at_s, who, what, before, after),
        )
