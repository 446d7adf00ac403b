"""Owns how an operator writes where the merchants' table is. Refuses what cannot be used, without showing any of it.

sqlite:///merchants.db            relative to the policy's folder
sqlite:////var/lib/merchants.db   absolute (four slashes, as SQLAlchemy has it)
postgresql://[user[:password]@]host[:5432][,host...]/database[?sslmode=verify-full&...]   as libpq
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from paymesh.payments.secrets import Secret

_SQLITE, _POSTGRES = "sqlite:///", ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True)
class SqliteAddress:
    path: Path


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    dsn: Secret


def parse_table_url(url: Secret, folder: Path) -> SqliteAddress | PostgresAddress:
    """Where the table is. ValueError for anything unusable, without the URL: it may hold a password."""
    try:
        text = url.reveal().decode()
    except UnicodeDecodeError:
        raise ValueError("the URL is not UTF-8") from None
    if text.startswith(_POSTGRES):
        return PostgresAddress(url)
    if not text.startswith(_SQLITE):
        raise ValueError("the URL begins with neither sqlite:/// nor postgresql://")
    path = unquote(text.removeprefix(_SQLITE))
    if not path or "?" in path or "\0" in path:
        raise ValueError("sqlite:/// is followed by a path and nothing else")
    return SqliteAddress(folder / path)
