"""Owns every policy that was ever applied: whole sets of documents, who, when and why, one after the other.

Refuses a change that was made from another version than the one in force (compare and set). Secrets are not in here:
documents hold references only. The contract is `ConfigStore`'s methods; a shared store implements the same.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from control_plane.sqlite import open_database, transaction
from paymesh.server.policy_resource import Documents, version_of

NONE = "none"
"""The version where there is none."""
UNFINISHED = "it was not published to the end: the control plane ended first"
"""Why a change is not in force that was begun and has no end: nobody was told that it was."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS configurations (
    id INTEGER PRIMARY KEY, version TEXT NOT NULL, before TEXT NOT NULL, at REAL NOT NULL, actor TEXT NOT NULL,
    reason TEXT NOT NULL, documents TEXT NOT NULL, refused TEXT
) STRICT
"""
_COLUMNS = "id, version, before, at, actor, reason, documents, refused"


class ConfigConflict(Exception):  # noqa: N818 - it names what happened
    """Somebody else was first; the message names both versions."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One change. `at_s` is Unix seconds. `refused`: why it is not in force; None: it was, until the next one."""

    number: int
    version: str
    before: str
    at_s: float
    actor: str
    reason: str
    documents: Documents
    refused: str | None


class ConfigStore:
    """One SQLite file. Blocking: call it in a thread."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._database = open_database(file, _SCHEMA)

    def current(self) -> Applied | None:
        """The one in force."""
        with self._lock:
            return self._current()

    def record(self, documents: Documents, if_version: str, actor: str, reason: str) -> Applied:
        """Make these the ones in force. Raises ConfigConflict, ValueError (no reason)."""
        return self._record(documents, if_version, actor, reason, None)

    def begin(self, documents: Documents, if_version: str, actor: str, reason: str) -> Applied:
        """Keep these before they are published; in force they are from `finish` on. Raises as `record` does."""
        return self._record(documents, if_version, actor, reason, UNFINISHED)

    def finish(self, number: int) -> None:
        """What was begun is published: it is in force."""
        with self._lock:
            self._database.execute("UPDATE configurations SET refused = NULL WHERE id = ?", (number,))

    def _record(self, documents: Documents, if_version: str, actor: str, reason: str, refused: str | None) -> Applied:
        if not reason.strip():
            raise ValueError("a reason is required: it is what the history shows")
        text = json.dumps(documents, ensure_ascii=False)
        with self._lock:
            with transaction(self._database):
                self._compare(if_version)
                found = self._database.execute(
                    "INSERT INTO configurations (version, before, at, actor, reason, documents, refused)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (version_of(documents), if_version, time.time(), actor, reason, text, refused),
                )
            recorded = self._one("id = ?", found.lastrowid)
            assert recorded is not None  # just written
            return recorded

    def compare(self, if_version: str) -> None:
        """Raises ConfigConflict if another version is in force."""
        with self._lock:
            self._compare(if_version)

    def refuse(self, number: int, why: str) -> None:
        """It did not come into force after all: the one before is in force again."""
        with self._lock:
            self._database.execute("UPDATE configurations SET refused = ? WHERE id = ?", (why, number))

    def history(self, limit: int = 100) -> list[Applied]:
        """Newest first."""
        with self._lock:
            rows = self._database.execute(f"SELECT {_COLUMNS} FROM configurations ORDER BY id DESC LIMIT ?", (limit,))  # noqa: S608
            return [_applied(row) for row in rows]

    def get(self, version: str) -> Applied | None:
        """The newest change to this version, or to the only one that begins so."""
        with self._lock:
            exact = self._one("version = ?", version)
            if exact is not None or not version:
                return exact
            like = version.replace("%", "").replace("_", "") + "%"
            names = self._database.execute(
                "SELECT DISTINCT version FROM configurations WHERE version LIKE ? LIMIT 2", (like,)
            ).fetchall()
            return self._one("version = ?", names[0][0]) if len(names) == 1 else None

    def close(self) -> None:
        self._database.close()

    def _compare(self, if_version: str) -> None:
        current = self._current()
        known = NONE if current is None else current.version
        if known != if_version:
            raise ConfigConflict(f"version {known} is in force, not {if_version}: see what changed, and apply again")

    def _current(self) -> Applied | None:
        return self._one("refused IS NULL AND ?", 1)

    def _one(self, where: str, value: object) -> Applied | None:
        row = self._database.execute(
            f"SELECT {_COLUMNS} FROM configurations WHERE {where} ORDER BY id DESC LIMIT 1",  # noqa: S608 - ours
            (value,),
        ).fetchone()
        return None if row is None else _applied(row)


def _applied(row: tuple[int, str, str, float, str, str, str, str | None]) -> Applied:
    number, version, before, at_s, actor, reason, text, refused = row
    documents = tuple((str(name), str(content)) for name, content in json.loads(text))
    return Applied(number, version, before, at_s, actor, reason, documents, refused)
