"""Owns what every service's process has in common, whatever it serves: told to stop, and gone soon after."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator

from prometheus_client import CollectorRegistry

from paymesh.server.logs import configure_logging, log, stop_logging
from paymesh.server.metrics import MetricsEndpoint
from paymesh.server.startup import StartupError

_LOG = logging.getLogger(__name__)
Serve = Callable[[Callable[[], asyncio.Event]], Awaitable[None]]
"""Serves until the event is set. Called once in its event loop, the function gives the event: from then on signals set
it, and end the process in so many seconds, whatever its tasks do."""


def run_until_told(name: str, log_level: str, gone_within_s: float, serve: Serve) -> int:
    """The exit code. 0: stopped as told. 2: could not start (said on stderr). 1: a bug."""
    configure_logging(name, log_level)
    last_resort = _last_resort(gone_within_s)
    try:
        asyncio.run(_as_coroutine(serve, last_resort))
    except StartupError as error:
        stop_logging()
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - for a person at a terminal
        return 2
    except Exception:
        _LOG.exception("crashed")
        return 1
    else:
        return 0
    finally:
        last_resort.cancel()
        stop_logging()


@contextlib.contextmanager
def metrics_on(registry: CollectorRegistry, listen: str | None) -> Iterator[None]:
    """The metrics page while inside; None: none. Raises StartupError."""
    if not listen:
        yield
        return
    endpoint = MetricsEndpoint(registry, listen)
    log(_LOG, "metrics", address=endpoint.address)
    try:
        yield
    finally:
        endpoint.stop()


async def _as_coroutine(serve: Serve, last_resort: threading.Timer) -> None:
    await serve(lambda: _stop_on_signals(last_resort))


def _stop_on_signals(last_resort: threading.Timer) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT, which also starts the timer: a start that hangs must end, too."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if not stop.is_set():
            stop.set()
            last_resort.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


def _last_resort(seconds: float) -> threading.Timer:
    # A task that swallows its cancellation would keep asyncio.run() from ever returning.
    def leave() -> None:
        log(_LOG, "stopped_by_force", seconds=seconds)
        stop_logging()
        os._exit(1)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    return timer
