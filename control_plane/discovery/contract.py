"""Owns what a registry of hosts is. Static addresses stand in the policy, DNS is Envoy's own; the rest implements this.

What every registry keeps (`tests/contract/test_registry.py` holds each to it):

- `hosts` yields what is known of a target, as soon as it is known and then whenever it changed, never twice alike;
- an empty answer is no answer: what was known stays, and `problems` says why. So does what cannot be read;
- a target that is not there is waited for; nothing ends but by cancellation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from paymesh.payments.policy.compiled import Service, ServiceVersion


@dataclass(frozen=True, slots=True, order=True)
class Host:
    """`address` is an IP address; `weight` 1 to 128 is its share among the hosts; `zone`: empty where not told."""

    address: str
    port: int
    weight: int = 1
    zone: str = ""


class Registry(Protocol):
    """Finds the hosts of versions that `finds` says are its own."""

    @property
    def problems(self) -> Mapping[str, str]:
        """By cluster name: why what was read last is not in force."""
        ...

    def finds(self, version: ServiceVersion) -> bool: ...

    def hosts(self, service: Service, version: ServiceVersion) -> AsyncIterator[tuple[Host, ...]]:
        """Sorted; never empty."""
        ...
