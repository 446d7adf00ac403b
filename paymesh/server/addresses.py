"""Owns reading HOST:PORT."""

from __future__ import annotations


def host_and_port(text: str) -> tuple[str, int]:
    """`127.0.0.1:9001` or `[::1]:9001`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)
