"""Owns the error that keeps a service from starting, and addresses as operators write them."""

from __future__ import annotations


class StartupError(Exception):
    """Cannot start, and the operator can do something about it. Printed as it is; exit code 2."""


def host_and_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:9001` or `[::1]:9001` taken apart; StartupError for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise StartupError(f"{address}: not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)
