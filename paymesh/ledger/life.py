"""Owns the life of an HTTP service of ours: its port, TLS, metrics, drain, stop. Knows nothing of what it serves.

After SIGTERM or SIGINT: /healthz says 503 and answers close their connections; a moment later the port is closed, and
requests at work have `drain_seconds`. One second later at most the process is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from paymesh.server.logs import log
from paymesh.server.metrics import new_registry
from paymesh.server.process_life import metrics_on, run_until_told
from paymesh.server.service import ServerOptions
from paymesh.server.startup import StartupError, host_and_port
from paymesh.server.tls import TlsOptions

_LOG = logging.getLogger(__name__)
_UNIX = "unix:"
_GOODBYE_S = 0.3
"""In which Envoy learns, by the closed connections, to send nothing more."""
_LAST_RESORT_S = 0.9


@dataclass(frozen=True, slots=True)
class HttpRuntime:
    """What a service builds on. `draining` is set when it is told to stop."""

    metrics: CollectorRegistry
    draining: asyncio.Event = field(default_factory=asyncio.Event)


RUNNER_OPTIONS: Mapping[str, Any] = {"handle_signals": False, "access_log": None, "auto_decompress": False}
"""aiohttp's own signal handlers and access log are off: ours are here, and a path is no log's. What is compressed is
the application's to refuse."""
Build = Callable[[HttpRuntime], AbstractAsyncContextManager[web.Application]]


def run_http_service(options: ServerOptions, build: Build) -> int:
    """Run until SIGTERM or SIGINT; the exit code. 0: stopped as told. 2: could not start (said on stderr). 1: a bug."""
    gone_within_s = options.drain_seconds + _GOODBYE_S + _LAST_RESORT_S
    return run_until_told(
        options.name, options.log_level, gone_within_s, lambda signals: _serve(options, build, signals)
    )


async def _serve(options: ServerOptions, build: Build, signals: Callable[[], asyncio.Event]) -> None:
    runtime = HttpRuntime(new_registry())
    stop = signals()
    with metrics_on(runtime.metrics, options.metrics_listen):
        async with build(runtime) as app:
            runner = web.AppRunner(app, shutdown_timeout=options.drain_seconds, **RUNNER_OPTIONS)
            await runner.setup()
            try:
                address = await _listen(runner, options)
                log(_LOG, "started", address=address, pid=os.getpid())
                await stop.wait()
                log(_LOG, "draining", seconds=options.drain_seconds)
                runtime.draining.set()
                await asyncio.sleep(_GOODBYE_S)
            finally:
                await runner.cleanup()
    log(_LOG, "stopped")


async def _listen(runner: web.AppRunner, options: ServerOptions) -> str:
    """The address in use (port 0 replaced). StartupError if it is taken."""
    context = None if options.tls is None else _tls(options.tls)
    site: web.BaseSite
    if options.listen.startswith(_UNIX):
        path = options.listen.removeprefix(_UNIX).removeprefix("//")
        _refuse_used_socket(options.listen, path)
        site = web.UnixSite(runner, path, ssl_context=context)
    else:
        host, port = host_and_port(options.listen)
        # Without SO_REUSEPORT: two processes would share a port without knowing.
        site = web.TCPSite(runner, host, port, ssl_context=context, reuse_address=True, reuse_port=False)
    try:
        await site.start()
    except OSError as error:
        raise StartupError(f"cannot listen on {options.listen}: {error.strerror or error}") from error
    if options.listen.startswith(_UNIX):
        return options.listen
    return f"{options.listen.rpartition(':')[0]}:{runner.addresses[0][1]}"


def _refuse_used_socket(listen: str, path: str) -> None:
    # asyncio removes whatever socket file is there, also one that is in use.
    with socket.socket(socket.AF_UNIX) as probe:
        if os.path.exists(path) and probe.connect_ex(path) == 0:
            raise StartupError(f"cannot listen on {listen}: address already in use")


def _tls(tls: TlsOptions) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The empty password: an encrypted key is an error here, never a prompt.
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: b"")
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        files = ", ".join(str(file) for file in (tls.certificate, tls.key, tls.client_ca) if file is not None)
        raise StartupError(f"TLS: {files}: {getattr(error, 'reason', None) or type(error).__name__}") from error
    return context
