"""Owns which event log a URL means. A backend's driver is loaded only where it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from paymesh.payments.denial import Unavailable
from paymesh.payments.events.log import EventLog
from paymesh.payments.secrets import Secret

Observer = Callable[[int, float, bool], None]
"""Told of each commit: how many events, seconds, and whether they were taken."""


class EventUrlError(ValueError):
    """What is wrong with it, without the password that may stand in it."""


class NotDurable(Unavailable):
    """The store would lose what it was given."""


def open_log(url: str, deadline_s: float, observer: Observer | None = None, password: Secret | None = None) -> EventLog:
    """Raises EventUrlError; Unavailable for a file that cannot be made. `deadline_s`: of each write."""
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        from paymesh.payments.events.sqlite_log import SqliteLog

        return SqliteLog(Path(rest.removeprefix("//")), deadline_s, observer)
    if scheme in ("postgresql", "postgres"):
        from paymesh.payments.events.postgres_log import PostgresLog

        return PostgresLog(Secret(_with(url, password).encode()), deadline_s, observer)
    if scheme in ("redis", "rediss", "valkey", "valkeys", "unix") or "+" in scheme:
        from paymesh.payments.events.valkey_log import ValkeyLog

        return ValkeyLog(url, deadline_s, observer, password)
    raise EventUrlError("none of sqlite:FILE, postgresql://HOST/DATABASE and valkey://HOST")


def _with(url: str, password: Secret | None) -> str:
    try:
        parts = urlsplit(url)
        held = parts.password
    except ValueError as error:
        raise EventUrlError("cannot be read as a URL") from error
    if password is None:
        return url
    if held is not None:
        raise EventUrlError("holds a password, and a file with one is given")
    name, at, host = parts.netloc.rpartition("@")
    if not at:
        raise EventUrlError("a password, and no user")
    return parts._replace(netloc=f"{name}:{quote(password.reveal().decode(), safe='')}@{host}").geturl()
