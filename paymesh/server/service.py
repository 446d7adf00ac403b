"""Owns the life of a service: arguments, start, health, metrics, drain, stop. Knows nothing of what it serves.

After SIGTERM or SIGINT: NOT_SERVING, no new calls, `drain_seconds` for those at work, then they are cancelled. One
second later at most the process is gone, whatever its tasks do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from paymesh.server.binding import bind, new_server
from paymesh.server.logs import log
from paymesh.server.metrics import new_registry
from paymesh.server.process_life import metrics_on, run_until_told
from paymesh.server.startup import StartupError
from paymesh.server.tls import TlsOptions, tls_options

_LOG = logging.getLogger(__name__)
_CANCEL_S = 0.4  # for calls to end after they were cancelled, and as long again for the service's own tasks
_LAST_RESORT_S = 0.9


@dataclass(frozen=True)
class ServerOptions:
    """How a service is reached. `listen`: `127.0.0.1:9001` or `unix:/path`; port 0 takes a free one."""

    name: str
    listen: str
    metrics_listen: str | None
    tls: TlsOptions | None
    drain_seconds: float = 4.0
    log_level: str = "info"


class Health:
    """What the gRPC health service answers for '' and for the service's name."""

    def __init__(self, name: str) -> None:
        self._names = ("", name)
        self.servicer = health.aio.HealthServicer()

    async def set_serving(self, serving: bool) -> None:
        """Tell the truth about whether calls can be answered. Without effect once the service drains."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._names:
            await self.servicer.set(name, status)


@dataclass(frozen=True)
class ServiceRuntime:
    """What a service builds on: add servicers to `server` (not started), collectors to `metrics`.

    `draining` is set when the service is told to stop: a stream without an end of its own waits for it and ends.
    """

    server: grpc.aio.Server
    health: Health
    metrics: CollectorRegistry
    address: str
    draining: asyncio.Event = field(default_factory=asyncio.Event)


Build = Callable[[ServiceRuntime], AbstractAsyncContextManager[None]]


def add_server_arguments(parser: argparse.ArgumentParser, default_listen: str) -> None:
    """The flags that every service has. Each falls back to an environment variable: --tls-cert to PAYMESH_TLS_CERT."""

    def add(flag: str, text: str, default: str | None = None) -> None:
        variable = "PAYMESH_" + flag.removeprefix("--").upper().replace("-", "_")
        value = os.environ.get(variable) or default
        parser.add_argument(flag, default=value, help=f"{text} (or {variable}; default: {default or 'none'})")

    add("--listen", "HOST:PORT or unix:/path", default_listen)
    add("--metrics-listen", "HOST:PORT of the Prometheus metrics")
    add("--tls-cert", "PEM file: serve TLS with this certificate chain")
    add("--tls-key", "PEM file: its private key")
    add("--tls-client-ca", "PEM file: clients must show a certificate of this authority (mTLS)")
    add("--log-level", "debug, info, warning or error", "info")


def server_options(args: argparse.Namespace, name: str) -> ServerOptions:
    """The options in parsed arguments. A combination without sense ends the program: usage error, exit code 2."""
    if str(args.log_level).lower() not in ("debug", "info", "warning", "error"):
        _fail(name, f"--log-level {args.log_level}: not debug, info, warning or error")
    try:
        tls = tls_options(*(Path(file) if file else None for file in (args.tls_cert, args.tls_key, args.tls_client_ca)))
    except StartupError as error:
        _fail(name, str(error))
    return ServerOptions(name, args.listen, args.metrics_listen, tls, log_level=args.log_level)


def _fail(name: str, message: str) -> NoReturn:
    print(f"{name}: {message}", file=sys.stderr)  # noqa: T201 - before logging is configured
    raise SystemExit(2)


def run_service(options: ServerOptions, build: Build) -> int:
    """Run until SIGTERM or SIGINT; the exit code. 0: stopped as told. 2: could not start (said on stderr). 1: a bug."""
    gone_within_s = options.drain_seconds + _LAST_RESORT_S
    return run_until_told(
        options.name, options.log_level, gone_within_s, lambda signals: _serve(options, build, signals)
    )


async def _serve(options: ServerOptions, build: Build, signals: Callable[[], asyncio.Event]) -> None:
    async with _runtime(options) as runtime:
        stop = signals()
        built = build(runtime)
        await built.__aenter__()
        try:
            await runtime.server.start()
            await runtime.health.set_serving(True)
            log(_LOG, "started", address=runtime.address, pid=os.getpid())
            await stop.wait()
            await _drain(runtime, options.drain_seconds)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if not stop.is_set() else _CANCEL_S):
                    await built.__aexit__(None, None, None)
    log(_LOG, "stopped")


@contextlib.asynccontextmanager
async def _runtime(options: ServerOptions) -> AsyncIterator[ServiceRuntime]:
    server = new_server()
    try:
        runtime = ServiceRuntime(
            server, Health(options.name), new_registry(), bind(server, options.listen, options.tls)
        )
        await runtime.health.set_serving(False)  # the servicer begins with SERVING
        health_pb2_grpc.add_HealthServicer_to_server(runtime.health.servicer, server)
        with metrics_on(runtime.metrics, options.metrics_listen):
            yield runtime
    finally:
        await server.stop(None)


async def _drain(runtime: ServiceRuntime, drain_seconds: float) -> None:
    log(_LOG, "draining", seconds=drain_seconds)
    runtime.draining.set()
    await runtime.health.servicer.enter_graceful_shutdown()
    try:
        async with asyncio.timeout(drain_seconds + _CANCEL_S):
            await runtime.server.stop(drain_seconds)
    except TimeoutError:
        log(_LOG, "calls_abandoned", seconds=drain_seconds)
