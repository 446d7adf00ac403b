"""Owns a service's metrics: a registry of its own and the HTTP endpoint that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server

from paymesh.server.addresses import host_and_port


def new_registry() -> CollectorRegistry:
    """A registry with the process's own metrics (CPU, memory, file descriptors, garbage collection)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def serve_metrics(registry: CollectorRegistry, listen: str) -> Callable[[], None]:
    """Serve `registry` on `listen` (HOST:PORT) from a thread; returns how to stop. Raises OSError if the port is taken."""
    host, port = host_and_port(listen)
    started: tuple[Any, Thread] = start_http_server(port, addr=host, registry=registry)
    server, thread = started

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=1)

    return stop
