"""Owns which event log a service writes to: its flags, its start, its metrics.

Refuses to start without being told: a gateway that keeps no record of payments has to be asked for (`--events none`).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from paymesh.payments.denial import Unavailable
from paymesh.payments.events.log import EventLog
from paymesh.payments.events.open_log import EventUrlError, NotDurable, open_log
from paymesh.payments.events.spooled_log import SpooledLog
from paymesh.payments.events.sqlite_log import SqliteLog
from paymesh.payments.secrets import Secret
from paymesh.server.startup import StartupError

URL_VARIABLE = "PAYMESH_EVENTS"
NONE = "none"
_CHOICES = f"sqlite:FILE, postgresql://HOST/DATABASE, valkey://HOST, or {NONE}"
_LOG = logging.getLogger(__name__)


def add_event_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--events",
        metavar="URL",
        help=f"where payments are recorded: {_CHOICES} (or {URL_VARIABLE}; required)",
    )
    parser.add_argument(
        "--events-spool",
        type=Path,
        metavar="FILE",
        help="where events of routes with events_on_error: spool wait while that is away; one for all services of a "
        "machine (default: none, those routes refuse)",
    )
    parser.add_argument(
        "--events-password-file", type=Path, metavar="FILE", help="holds its password (default: none, or in the URL's)"
    )


def _nothing_waits(_: str) -> bool:
    return False


@contextlib.asynccontextmanager
async def events_of(
    args: argparse.Namespace,
    registry: CollectorRegistry,
    deadline_s: float,
    may_wait: Callable[[str], bool] = _nothing_waits,
    environ: Mapping[str, str] = os.environ,
) -> AsyncIterator[EventLog | None]:
    """The log that the parsed arguments ask for; None: none. `deadline_s`: of each write. `may_wait`: whether a
    route's attempts may wait in the spool. StartupError for what cannot be used, or would lose what it was given; a
    database that is away is waited for, payments are refused until then."""
    url = args.events or environ.get(URL_VARIABLE)
    if not url:
        raise StartupError(f"--events URL is missing: {_CHOICES}, which keeps no record")
    if url == NONE:
        _LOG.warning("payments are not recorded")
        yield None
        return
    source = "--events" if args.events else URL_VARIABLE
    password = None if args.events_password_file is None else _password(args.events_password_file)
    try:
        log: EventLog = open_log(url, deadline_s, _Metrics(registry).wrote, password=password)
        if args.events_spool is not None:
            spooled = SpooledLog(log, SqliteLog(args.events_spool, deadline_s), may_wait)
            waiting = Gauge("paymesh_events_waiting", "Events in the spool, as counted last.", registry=registry)
            waiting.set_function(lambda: spooled.waiting)
            log = spooled
    except EventUrlError as error:
        raise StartupError(f"{source}: {error}") from error
    try:
        await _prepare(log, source)
        yield log
    finally:
        await log.close()


async def _prepare(log: EventLog, source: str) -> None:
    try:
        await log.prepare()
    except (EventUrlError, NotDurable) as error:
        raise StartupError(f"{source}: {error}") from error
    except Unavailable as error:
        _LOG.warning("the event log is away at the start", extra={"fields": {"error": str(error)}})


def _password(file: Path) -> Secret:
    try:
        value = file.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise StartupError(f"--events-password-file {file}: {error.strerror or type(error).__name__}") from error
    return Secret(value)


class _Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "paymesh_events", "Events given to the event log, by whether it took them.", ["taken"], registry=registry
        )
        self._seconds = Histogram(
            "paymesh_events_commit_seconds",
            "How long a common commit took.",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0),
            registry=registry,
        )
        self._up = Gauge("paymesh_events_up", "Whether the last commit succeeded.", registry=registry)

    def wrote(self, events: int, seconds: float, taken: bool) -> None:
        self._events.labels(taken="yes" if taken else "no").inc(events)
        self._seconds.observe(seconds)
        self._up.set(taken)
