"""Owns remembering nonces until their timestamps are too old to be accepted anyway. Refuses to forget one early.

The in-process store serves one worker; a shared store implements the same contract.
"""

from __future__ import annotations

import hashlib
import heapq
from typing import Protocol

from paymesh.payments.denial import Unavailable

MAX_NONCES = 2_000_000
"""About 400 MB. Beyond it the store is Unavailable: dropping one would let its request in twice."""


class NonceStore(Protocol):
    async def add(self, nonce: str, expires_at_s: int, now_s: int) -> bool:
        """Remember `nonce` until `expires_at_s` (Unix seconds). True if it was not there. Raises Unavailable."""
        ...


class InProcessNonces:
    """Nonces as 16-byte digests in this process's memory."""

    def __init__(self, capacity: int = MAX_NONCES) -> None:
        self._capacity = capacity
        self._seen: dict[bytes, int] = {}
        self._expiry: list[tuple[int, bytes]] = []

    async def add(self, nonce: str, expires_at_s: int, now_s: int) -> bool:
        while self._expiry and self._expiry[0][0] < now_s:
            expired, digest = heapq.heappop(self._expiry)
            if self._seen.get(digest) == expired:
                del self._seen[digest]
        digest = hashlib.blake2b(nonce.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in self._seen:
            return False
        if len(self._seen) >= self._capacity:
            raise Unavailable("the nonce store is full")
        self._seen[digest] = expires_at_s
        heapq.heappush(self._expiry, (expires_at_s, digest))
        return True
