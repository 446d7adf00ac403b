"""Owns how the ledger starts: its flags, its event log. Refuses to start without one: it exists to record."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from paymesh.ledger.app import OfflinePayments, build_app
from paymesh.ledger.life import HttpRuntime, run_http_service
from paymesh.server.event_log import add_event_arguments, events_of
from paymesh.server.service import add_server_arguments, server_options
from paymesh.server.startup import StartupError

EVENT_DEADLINE_S = 2.0
"""Of a record's write: below what a route waits for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Exit code 2: a taken port, or no event log."""
    parser = argparse.ArgumentParser(
        prog="python -m paymesh.ledger",
        description="Records payments that were taken elsewhere: HTTP/JSON for merchants, behind the gateway only.",
    )
    add_server_arguments(parser, "127.0.0.1:9003")
    add_event_arguments(parser)
    args = parser.parse_args(arguments)

    @contextlib.asynccontextmanager
    async def build(runtime: HttpRuntime) -> AsyncIterator[web.Application]:
        async with events_of(args, runtime.metrics, EVENT_DEADLINE_S) as events:
            if events is None:
                raise StartupError("--events none: the ledger has nowhere to record")
            payments = OfflinePayments(events, lambda: time.time_ns() // 1000, runtime.metrics)
            yield build_app(payments, runtime.draining)

    return run_http_service(server_options(args, "ledger"), build)
