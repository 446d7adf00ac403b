"""Owns nonces in shared state: one SET NX each. Refuses to forget one early."""

from __future__ import annotations

from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.keys import nonce_key

KEPT_LONGER_S = 60
"""Seconds that a key outlives what it stands for: the clocks of two gateways may differ."""


class RedisNonces:
    """Implements `NonceStore`. The store counts the lifetime from its own now: its clock need not be right."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    async def add(self, nonce: str, expires_at_s: int, now_s: int) -> bool:
        lifetime_ms = max(0, expires_at_s - now_s) * 1000 + KEPT_LONGER_S * 1000
        return await self._state.call("SET", nonce_key(nonce), b"", "NX", "PX", lifetime_ms) is not None
