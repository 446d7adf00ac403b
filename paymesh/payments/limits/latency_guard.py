"""Owns what a worker knows of latencies: what it saw since it last told the store, and the shares it was told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from paymesh.payments.denial import Unavailable
from paymesh.payments.limits.latency import WHOLE, LatencySettings, LatencyStore

REPORT_S = 0.5
FORGOTTEN_S = 3600
"""A key that this worker did not use for so long is forgotten, once its share is whole."""
_LOG = logging.getLogger(__name__)


def scale(value: int, share: int) -> int:
    """That share of a value, rounded down, but never nothing."""
    return max(1, value * share // WHOLE)


@dataclass(slots=True)
class _Seen:
    settings: LatencySettings
    wanted_ns: int
    over: int = 0
    total: int = 0


class LatencyGuard:
    """Sits between the access log, which tells durations, and the decisions, which ask for shares. Neither waits."""

    def __init__(
        self, store: LatencyStore, interval_s: float = REPORT_S, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """`clock_ns`: monotonic."""
        self._store = store
        self._interval_s = interval_s
        self._clock_ns = clock_ns
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._shares: dict[tuple[str, str], int] = {}
        self._away = False

    @property
    def shares(self) -> Mapping[tuple[str, str], int]:
        """By limit and service or channel; those not here are whole."""
        return self._shares

    def observe(self, key: tuple[str, str], settings: LatencySettings, took_ms: int) -> None:
        """An exchange is over."""
        seen = self._wanted(key, settings)
        seen.total += 1
        seen.over += took_ms > settings.p95_ms

    def share_wanted(self, key: tuple[str, str], settings: LatencySettings) -> None:
        """A decision of this worker goes by it: another worker may be the one that hears of the durations."""
        self._wanted(key, settings)

    def share(self, key: tuple[str, str]) -> int:
        return self._shares.get(key, WHOLE)

    async def run(self) -> None:
        """Tell and hear, until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.exchange()

    async def exchange(self) -> None:
        """Tell the store what was seen, and hear every share. Without it the last ones stay, and what was seen is
        dropped: a call that failed may have told it, and by the next time it is old."""
        error: Unavailable | None = None
        for key, seen in list(self._seen.items()):
            if self._clock_ns() - seen.wanted_ns >= FORGOTTEN_S * 1_000_000_000 and self.share(key) == WHOLE:
                del self._seen[key]
                self._shares.pop(key, None)
                continue
            over, total = seen.over, seen.total
            seen.over, seen.total = 0, 0
            try:
                share = await self._store.report(key, seen.settings, over, total, self._clock_ns())
            except Unavailable as caught:  # of a cluster a part may be away: the others are told all the same
                error = caught
            else:
                self._keep(key, share)
        if error is not None and not self._away:
            _LOG.warning("latencies not shared: the last shares stay", extra={"fields": {"error": str(error)}})
        self._away = error is not None

    def _keep(self, key: tuple[str, str], share: int) -> None:
        if share != self._shares.get(key, WHOLE):
            fields = {"limit": key[0], "of": key[1], "share": f"{share / 100:g}%"}
            _LOG.warning("a latency limit changes", extra={"fields": fields})
        self._shares[key] = share

    def _wanted(self, key: tuple[str, str], settings: LatencySettings) -> _Seen:
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen(settings, 0)
        seen.settings, seen.wanted_ns = settings, self._clock_ns()
        return seen
