"""Owns whether shared state may be asked now: a circuit breaker. Refuses to make a payment the one that tries again.

Closed until enough consecutive failures; then open. Only a probe, never a caller's call, closes it again.
"""

from __future__ import annotations

import enum


class BreakerState(enum.StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    """One probe is under way; calls are still refused."""


class Breaker:
    """Counts failures. The owner runs the probe and tells how it went."""

    def __init__(self, failures_to_open: int) -> None:
        self._failures_to_open = failures_to_open
        self._failures = 0
        self.state = BreakerState.CLOSED

    def succeeded(self) -> None:
        """A call ended well. One that began before the breaker opened does not close it."""
        self._failures = 0

    def failed(self, at_once: bool) -> bool:
        """A call failed; True if the breaker opens now. `at_once`: one such failure is enough."""
        if self.state is not BreakerState.CLOSED:
            return False
        self._failures += 1
        if not at_once and self._failures < self._failures_to_open:
            return False
        self.state = BreakerState.OPEN
        return True

    def probing(self) -> None:
        self.state = BreakerState.HALF_OPEN

    def probed(self, well: bool) -> None:
        self._failures = 0
        self.state = BreakerState.CLOSED if well else BreakerState.OPEN
