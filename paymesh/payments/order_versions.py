"""Owns which version of its service an order began on, for as long as the order is remembered.

Refuses to change it: a drained version goes on answering for its orders, whichever version a repeat reached since. The
in-process store serves one worker; `shared_state/redis_order_versions.py` implements the same contract for many.
"""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass
from typing import Protocol

from paymesh.payments.denial import Unavailable
from paymesh.payments.policy.compiled import Policy

MAX_ORDERS = 1_000_000
"""About 300 MB. Beyond it the store takes no more: dropping one would send its order to a version that has it not."""


@dataclass(frozen=True, slots=True)
class OrderVersion:
    """Names of the policy."""

    service: str
    version: str


class OrderVersions(Protocol):
    """By an order's owner (a merchant id) and its key in the order store. Times are Unix seconds."""

    async def record(self, owner: str, key: str, version: OrderVersion, expires_at_s: int, now_s: int) -> None:
        """Remember the first version told, until the latest `expires_at_s` told. Raises Unavailable."""
        ...

    async def find(self, owner: str, key: str, now_s: int) -> OrderVersion | None:
        """The first version told. Raises Unavailable."""
        ...


def version_of_cluster(cluster: str, policy: Policy) -> OrderVersion | None:
    """The version that a cluster is (see `version_cluster`), if its service has others that an order could go to.

    None for a fallback's, whose name has more parts: which of its clusters took the request is not known.
    """
    parts = cluster.split("|")
    service = policy.services.get(parts[0])
    if len(parts) != 2 or service is None or len(service.versions) < 2:
        return None
    # The policy's own text, of which a million orders share one copy.
    name = next((one.name for one in service.versions if one.name == parts[1]), None)
    return None if name is None else OrderVersion(service.name, name)


class InProcessOrderVersions:
    """Versions in this process's memory, by a digest of owner and key."""

    def __init__(self, capacity: int = MAX_ORDERS) -> None:
        self._capacity = capacity
        self._held: dict[bytes, tuple[OrderVersion, int]] = {}
        self._expiry: list[tuple[int, bytes]] = []
        """One entry for each of `_held`, which may expire later than its entry says, never sooner."""

    async def record(self, owner: str, key: str, version: OrderVersion, expires_at_s: int, now_s: int) -> None:
        self._forget_expired(now_s)
        digest = _digest(owner, key)
        held = self._held.get(digest)
        if held is not None:
            self._held[digest] = held[0], max(held[1], expires_at_s)
            return
        if len(self._held) >= self._capacity:
            raise Unavailable("the store of orders' versions is full")
        self._held[digest] = version, expires_at_s
        heapq.heappush(self._expiry, (expires_at_s, digest))

    async def find(self, owner: str, key: str, now_s: int) -> OrderVersion | None:
        held = self._held.get(_digest(owner, key))
        return None if held is None or held[1] < now_s else held[0]

    def _forget_expired(self, now_s: int) -> None:
        while self._expiry and self._expiry[0][0] < now_s:
            digest = self._expiry[0][1]
            expires_at_s = self._held[digest][1]
            if expires_at_s < now_s:
                heapq.heappop(self._expiry)
                del self._held[digest]
            else:
                heapq.heapreplace(self._expiry, (expires_at_s, digest))


def _digest(owner: str, key: str) -> bytes:
    owner_bytes = owner.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(len(owner_bytes).to_bytes(4), digest_size=16)
    digest.update(owner_bytes)
    digest.update(key.encode("utf-8", "surrogatepass"))
    return digest.digest()
