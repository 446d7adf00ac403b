"""Owns a service's Prometheus registry and the HTTP endpoint that serves it. Refuses every path but /metrics (404)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    make_wsgi_app,
)

from paymesh.server.logs import dropped_lines
from paymesh.server.startup import StartupError, host_and_port

_STOP_POLL_S = 0.05


def new_registry() -> CollectorRegistry:
    """A registry of the service's own, with its process's CPU, memory, file descriptors and garbage collection."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    dropped = Gauge("paymesh_log_lines_dropped", "Log lines lost: stderr was not read.", registry=registry)
    dropped.set_function(dropped_lines)
    return registry


class MetricsEndpoint:
    """Serves a registry in threads of its own: a slow scraper never holds up the event loop."""

    def __init__(self, registry: CollectorRegistry, listen: str) -> None:
        """Bind `HOST:PORT`. StartupError if it is taken."""
        host, port = host_and_port(listen)
        try:
            self._server = make_server(host, port, _only_metrics(registry), _Server, _SilentHandler)
        except OSError as error:
            raise StartupError(f"cannot listen on {listen} for metrics: {error.strerror or error}") from error
        self.address = f"{listen.rpartition(':')[0]}:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_STOP_POLL_S,), name="metrics", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port. Blocks for at most a few hundredths of a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_port = False  # a taken port is an error

    def server_bind(self) -> None:
        # HTTPServer.server_bind() looks up the host's name in DNS, which may take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _SilentHandler(WSGIRequestHandler):
    timeout = 10  # seconds; a scraper that sends nothing must not keep a thread

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        """A scrape is not worth a line."""


def _only_metrics(registry: CollectorRegistry) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    serve = make_wsgi_app(registry)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"see /metrics\n"]
        answer: Iterable[bytes] = serve(environ, start_response)
        return answer

    return application
