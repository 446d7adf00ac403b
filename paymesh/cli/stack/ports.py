"""Owns the local stack's ports: their defaults, random ones for tests, and naming the one that is taken."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, fields

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """One TCP port on loopback each. The flag that changes `ext_authz` is `--ext-authz-port`."""

    gateway: int = 8080
    envoy_admin: int = 9901
    xds: int = 18000
    admin: int = 18001
    ext_authz: int = 9001
    ext_proc: int = 9002
    ext_authz_metrics: int = 9101
    ext_proc_metrics: int = 9102
    control_plane_metrics: int = 9103
    trade_v1: int = 9201
    trade_v2: int = 9202
    wechat: int = 9211
    alipay: int = 9212
    card: int = 9213
    offline: int = 9214

    def address(self, name: str) -> str:
        return f"{HOST}:{getattr(self, name)}"

    @classmethod
    def random(cls) -> Ports:
        """Free ports, all different; another process may still take one before it is used."""
        with contextlib.ExitStack() as stack:
            found = {}
            for field in fields(cls):
                listener = stack.enter_context(socket.socket())
                listener.bind((HOST, 0))
                found[field.name] = listener.getsockname()[1]
        return cls(**found)


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}-port"


def taken(ports: Ports) -> list[str]:
    """A sentence for every port that something listens on already, or that two parts were given."""
    problems = []
    seen: dict[int, str] = {}
    for field in fields(ports):
        port = getattr(ports, field.name)
        if port in seen:
            problems.append(f"{flag(field.name)} and {flag(seen[port])} are both {port}")
        seen[port] = field.name
        with socket.socket() as probe:
            # As servers do it: ports in TIME_WAIT are free, ports with a listener are not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                problems.append(f"port {port} is taken: {flag(field.name)} chooses another")
    return problems
