"""Owns how a verb opens the event log: which one, and what is said if it cannot be."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

from paymesh.payments.denial import Unavailable
from paymesh.payments.events.log import EventLog
from paymesh.payments.events.open_log import EventUrlError, open_log

DEFAULT = "sqlite:.paymesh/data/events.sqlite"
_DEADLINE_S = 10.0


def add_event_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--events",
        default=os.environ.get("PAYMESH_EVENTS") or DEFAULT,
        metavar="URL",
        help=f"sqlite:FILE, postgresql://HOST/DATABASE or valkey://HOST (or PAYMESH_EVENTS; default {DEFAULT})",
    )


def is_there(url: str) -> bool:
    """Whether the file of a log in a file exists; of others nobody knows before they are asked."""
    return not url.startswith("sqlite:") or os.path.exists(url.removeprefix("sqlite:").removeprefix("//"))


def with_event_log(url: str, work: Callable[[EventLog], Awaitable[int]]) -> int:
    """The verb's exit code; 2 if there is no such log."""

    async def inside() -> int:
        log = open_log(url, _DEADLINE_S)
        try:
            return await work(log)
        finally:
            await log.close()

    if not is_there(url):
        path = url.removeprefix("sqlite:").removeprefix("//")
        print(f"{path}: no such event log (--events names another)", file=sys.stderr)
        return 2
    try:
        return asyncio.run(inside())
    except (EventUrlError, Unavailable) as error:
        print(error if str(error).startswith("events:") else f"--events: {error}", file=sys.stderr)
        return 2
