"""Owns how the control plane keeps things in SQLite: durable when written, several things or none of them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path


def open_database(file: Path, schema: str) -> sqlite3.Connection:
    """In autocommit mode, for any thread; whoever uses it locks. FULL: what was answered as recorded survives a power
    cut. Raises sqlite3.Error, such as for a file that is no database."""
    file.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(file, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(schema)
    except sqlite3.Error:
        database.close()
        raise
    return database


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """`sqlite3`'s own context manager would not begin one in autocommit mode."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
