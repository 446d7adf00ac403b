"""Owns sizes that somebody set for a while: they go before the policy's, until they expire."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from paymesh.payments.policy.callers import LimitSize


@dataclass(frozen=True, slots=True)
class LimitOverride:
    """`key`: the limit's name alone, or with the value of each of its dimensions: then only they are meant."""

    key: tuple[str, ...]
    size: LimitSize
    until_s: int
    """Unix seconds."""
    reason: str
    who: str
    set_at_s: int


class OverridesInForce:
    """What decisions ask. Replaced as a whole, so that a request sees one state of it."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, ...], LimitOverride] = {}

    def replace(self, overrides: Iterable[LimitOverride]) -> None:
        self._by_key = {override.key: override for override in overrides}

    def all(self, now_s: int) -> list[LimitOverride]:
        return [override for override in self._by_key.values() if now_s < override.until_s]

    def find(self, key: tuple[str, ...], now_s: int) -> LimitOverride | None:
        """The one for exactly these values, else the one for the whole limit."""
        if not self._by_key:
            return None
        for wanted in (key, key[:1]):
            found = self._by_key.get(wanted)
            if found is not None and now_s < found.until_s:
                return found
        return None
