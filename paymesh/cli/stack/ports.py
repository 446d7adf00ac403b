"""Owns the local stack's ports: their defaults, random ones for tests, and naming the one that is taken."""

from __future__ import annotations

import itertools
import os
import socket
from dataclasses import dataclass, fields

HOST = "127.0.0.1"
# Below the range from which the kernel (Linux: 32768 and up) takes the ports of outgoing connections: a port that was
# free when it was chosen is not taken by somebody's connection before it is used.
_FIRST_RANDOM, _BLOCKS, _BLOCK_SIZE = 20_000, 500, 25
_CHOICES = itertools.count()


@dataclass(frozen=True, slots=True)
class Ports:
    """One TCP port on loopback each. The flag that changes `ext_authz` is `--ext-authz-port`."""

    gateway: int = 8080
    envoy_admin: int = 9901
    xds: int = 18000
    admin: int = 18001
    limits_admin: int = 18002
    ext_authz: int = 9001
    ext_proc: int = 9002
    ledger: int = 9003
    ext_authz_metrics: int = 9101
    ext_proc_metrics: int = 9102
    control_plane_metrics: int = 9103
    ledger_metrics: int = 9104
    trade_v1: int = 9201
    trade_v2: int = 9202
    wechat: int = 9211
    alipay: int = 9212
    card: int = 9213
    offline: int = 9214
    unionpay: int = 9215

    def address(self, name: str) -> str:
        return f"{HOST}:{getattr(self, name)}"

    @classmethod
    def random(cls) -> Ports:
        """Free ports, all different, and others than any process beside this one is likely to choose."""
        names = [field.name for field in fields(cls)]
        for _ in range(_BLOCKS):
            # Neighbouring process ids begin in different blocks, and meet only after hundreds of choices.
            block = (os.getpid() * 31 + next(_CHOICES) * 97) % _BLOCKS
            first = _FIRST_RANDOM + block * _BLOCK_SIZE
            ports = cls(**{name: first + offset for offset, name in enumerate(names)})
            if not taken(ports):
                return ports
        raise OSError(f"no {len(names)} free ports in a row from {_FIRST_RANDOM} on")


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
