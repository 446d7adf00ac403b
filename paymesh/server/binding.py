"""Owns how a gRPC server of ours is made and bound to an address. Refuses an address that someone else has.

SO_REUSEPORT is off: with it two processes share a port without knowing, and the kernel leaves workers idle.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence

import grpc

from paymesh.server.handler_errors import without_error_texts
from paymesh.server.startup import StartupError, host_and_port
from paymesh.server.tls import TlsOptions, server_credentials

_UNIX = "unix:"
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Above the largest body that a policy may allow (10 MiB), so that it is always Envoy that refuses a large body."""

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Envoy pings its ADS connection while nothing is sent; grpc's default (5 minutes) would answer too_many_pings.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A peer that vanished (a node powered off) is noticed, and its streams end.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


def new_server(interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> grpc.aio.Server:
    """A server with the options that every service of ours needs, bound to nothing yet. Interceptors cost every call:
    none where requests are decided."""
    return without_error_texts(grpc.aio.server(options=_OPTIONS, interceptors=interceptors))


def bind(server: grpc.aio.Server, listen: str, tls: TlsOptions | None) -> str:
    """Bind `HOST:PORT` or `unix:/path`; the address in use (port 0 replaced). StartupError if it is taken."""
    credentials = None if tls is None else server_credentials(tls)
    if listen.startswith(_UNIX):
        _refuse_used_socket(listen)
    else:
        host, port = host_and_port(listen)
        _refuse_used_port(listen, host, port)
    try:
        port = server.add_insecure_port(listen) if credentials is None else server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise StartupError(f"cannot listen on {listen}: the address is taken or is not ours") from error
    return listen if listen.startswith(_UNIX) else f"{listen.rpartition(':')[0]}:{port}"


def _refuse_used_port(listen: str, host: str, port: int) -> None:
    # Only for the message: gRPC says no more than "failed to bind".
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise StartupError(f"cannot listen on {listen}: {error.strerror or error}") from error


def _refuse_used_socket(listen: str) -> None:
    # gRPC removes whatever socket file is there, also one that is in use.
    path = listen.removeprefix(_UNIX).removeprefix("//")
    if not os.path.exists(path):
        return
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise StartupError(f"cannot listen on {listen}: a file that is no socket is there")
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(path) == 0:
            raise StartupError(f"cannot listen on {listen}: address already in use")
