"""Owns what the control plane is told by its flags, beside the policy: where the parts of this gateway are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Addresses are (IP, port). `access_log` is a file, such as /dev/stdout."""

    gateway: tuple[str, int]
    ext_authz: tuple[str, int]
    ext_proc: tuple[str, int]
    access_log: str
