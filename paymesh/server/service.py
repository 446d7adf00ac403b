"""Owns the life of a gRPC service: one way to start, serve, drain and stop, for all of them.

One process, one address, one asyncio loop. SIGTERM and SIGINT: NOT_SERVING first, so that Envoy's health checks and
Kubernetes stop sending; then calls under way get `drain_seconds`; within five seconds it is over.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from prometheus_client import CollectorRegistry, Gauge

from paymesh.server.logs import LogWriter, configure_logging
from paymesh.server.metrics import new_registry, serve_metrics
from paymesh.server.tls import TlsOptions, server_credentials

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A body of the largest size that a policy may allow, with room for the headers."""
_EXIT_UNUSABLE = 2


@dataclass(frozen=True, slots=True)
class ServerOptions:
    name: str
    """The service's name in health checks, logs and metrics."""
    listen: str
    """`HOST:PORT` or `unix:/path`."""
    metrics_listen: str | None = None
    tls: TlsOptions | None = None
    drain_seconds: float = 4.0
    log_level: str = "info"


class Health:
    """gRPC health (grpc.health.v1) of the whole server and of the service by name."""

    def __init__(self, name: str) -> None:
        self.servicer = health_aio.HealthServicer()
        self._names = ("", name)

    async def set_serving(self, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        for name in self._names:
            await self.servicer.set(name, status.SERVING if serving else status.NOT_SERVING)


@dataclass(frozen=True, slots=True)
class ServiceRuntime:
    """What a service builds itself into: a server that is not started yet, its health, its metrics."""

    server: grpc.aio.Server
    health: Health
    metrics: CollectorRegistry


Build = Callable[[ServiceRuntime], AbstractAsyncContextManager[None]]


class CannotStart(Exception):  # noqa: N818 - it names what happened
    """The service cannot start; the message says what to change."""


def add_server_arguments(parser: argparse.ArgumentParser, default_listen: str) -> None:
    """The flags that every service has; each falls back to an environment variable, then to its default."""
    environ = os.environ
    add = parser.add_argument
    add("--listen", default=environ.get("PAYMESH_LISTEN", default_listen), help="HOST:PORT or unix:/path")
    add("--metrics-listen", default=environ.get("PAYMESH_METRICS_LISTEN"), help="HOST:PORT for Prometheus")
    add("--tls-cert", type=Path, default=environ.get("PAYMESH_TLS_CERT"), help="PEM file: serve TLS")
    add("--tls-key", type=Path, default=environ.get("PAYMESH_TLS_KEY"), help="PEM file")
    add("--tls-client-ca", type=Path, default=environ.get("PAYMESH_TLS_CLIENT_CA"), help="PEM file: require mTLS")
    add("--log-level", default=environ.get("PAYMESH_LOG_LEVEL", "info"), choices=("debug", "info", "warning", "error"))


def server_options(args: argparse.Namespace, name: str) -> ServerOptions:
    """The options that the flags of `add_server_arguments` gave. Exits with usage if TLS is half given."""
    if bool(args.tls_cert) != bool(args.tls_key) or (args.tls_client_ca and not args.tls_cert):
        sys.stderr.write(f"{name}: --tls-cert and --tls-key go together, and --tls-client-ca needs both\n")
        raise SystemExit(_EXIT_UNUSABLE)
    tls = None
    if args.tls_cert:
        tls = TlsOptions(Path(args.tls_cert), Path(args.tls_key), args.tls_client_ca and Path(args.tls_client_ca))
    return ServerOptions(name, args.listen, args.metrics_listen, tls, log_level=args.log_level)


def run_service(options: ServerOptions, build: Build) -> int:
    """Serve until SIGTERM or SIGINT. Exit code 0 after a clean stop, 2 if it could not start (said on stderr)."""
    writer = configure_logging(options.name, options.log_level)
    try:
        asyncio.run(_serve(options, build, writer))
    except CannotStart as error:
        sys.stderr.write(f"{options.name}: {error}\n")
        return _EXIT_UNUSABLE
    finally:
        writer.stop()
    return 0


async def _serve(options: ServerOptions, build: Build, writer: LogWriter) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = grpc.aio.server(
        options=[
            # With it, a second server on a taken port would silently get half of the connections.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
    )
    runtime = ServiceRuntime(server, Health(options.name), new_registry())
    dropped = Gauge("paymesh_log_lines_dropped", "Log lines lost: the queue was full.", registry=runtime.metrics)
    dropped.set_function(lambda: writer.dropped)
    health_pb2_grpc.add_HealthServicer_to_server(runtime.health.servicer, server)
    async with AsyncExitStack() as stack:
        _listen(server, options)
        if options.metrics_listen is not None:
            stack.callback(_serve_metrics(runtime, options.metrics_listen))
        await stack.enter_async_context(build(runtime))
        await server.start()
        await runtime.health.set_serving(True)
        await stop.wait()
        await runtime.health.set_serving(False)
        await server.stop(grace=options.drain_seconds)


def _listen(server: grpc.aio.Server, options: ServerOptions) -> None:
    try:
        if options.tls is None:
            bound = server.add_insecure_port(options.listen)
        else:
            bound = server.add_secure_port(options.listen, server_credentials(options.tls))
    except OSError as error:
        raise CannotStart(f"TLS file cannot be read: {error}") from error
    except RuntimeError as error:
        raise CannotStart(f"cannot listen on {options.listen}: is the port taken? (--listen changes it)") from error
    if not bound:
        raise CannotStart(f"cannot listen on {options.listen}")


def _serve_metrics(runtime: ServiceRuntime, listen: str) -> Callable[[], None]:
    try:
        return serve_metrics(runtime.metrics, listen)
    except (OSError, ValueError) as error:
        raise CannotStart(f"cannot serve metrics on {listen}: {error} (--metrics-listen changes it)") from error
