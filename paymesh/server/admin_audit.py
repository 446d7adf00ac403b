"""Owns the log of every change over an admin port: a row before the call and a row with its end, each chained by hash.

Refuses a call whose row cannot be written: what nobody could find later does not happen. Only appended to; a row that
is changed or taken out afterwards no longer fits its neighbours. Of texts of files only the hash is kept here: the
configuration centre has them.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY, content TEXT NOT NULL, chain TEXT NOT NULL
) STRICT
"""
_BEGINNING = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One call. `answered` and `result` are empty where the process ended first. `at_s` is Unix seconds."""

    number: int
    at_s: float
    actor: str
    role: str
    method: str
    asked: str
    answered: str
    result: str


class AuditLog:
    """One SQLite file. Blocking: call it in a thread."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(file, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute(_SCHEMA)
        except sqlite3.Error:
            self._database.close()
            raise

    def begin(self, actor: str, role: str, method: str, asked: str) -> int:
        """A row before anything changes; its number. Raises sqlite3.Error."""
        return self._append({"at": time.time(), "actor": actor, "role": role, "method": method, "asked": asked})

    def end(self, of: int, answered: str, result: str) -> None:
        """A row with what came of it. Raises sqlite3.Error."""
        self._append({"at": time.time(), "of": of, "answered": answered, "result": result})

    def entries(self, since_s: float = 0, limit: int = 1000) -> list[AuditEntry]:
        """The newest so many calls, oldest first."""
        with self._lock:
            rows = self._database.execute("SELECT number, content FROM audit ORDER BY number").fetchall()
        begun: dict[int, dict[str, Any]] = {}
        for number, text in rows:
            content = json.loads(text)
            if "of" in content:
                begun.get(content["of"], {}).update(answered=content["answered"], result=content["result"])
            else:
                begun[number] = content
        found = [
            AuditEntry(
                number, one["at"], one["actor"], one["role"], one["method"], one["asked"], one.get("answered", ""),
                one.get("result", ""),
            )
            for number, one in begun.items()
            if one["at"] >= since_s
        ]  # fmt: skip
        return found[-limit:]

    def broken_at(self) -> int | None:
        """The first row that is not as it was written, or stands where another should; None: all fit."""
        with self._lock:
            rows = self._database.execute("SELECT number, content, chain FROM audit ORDER BY number").fetchall()
        chain = _BEGINNING
        for expected, (number, content, stored) in enumerate(rows, start=1):
            chain = _link(chain, content)
            if number != expected or chain != stored:
                return int(number)
        return None

    def close(self) -> None:
        self._database.close()

    def _append(self, content: dict[str, Any]) -> int:
        text = json.dumps(content, ensure_ascii=False, sort_keys=True)
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                last = self._database.execute("SELECT number, chain FROM audit ORDER BY number DESC LIMIT 1").fetchone()
                number, chain = (1, _BEGINNING) if last is None else (last[0] + 1, last[1])
                self._database.execute("INSERT INTO audit VALUES (?, ?, ?)", (number, text, _link(chain, text)))
                self._database.execute("COMMIT")
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
        return int(number)


def _link(before: str, content: str) -> str:
    return hashlib.sha256(f"{before}\n{content}".encode()).hexdigest()
