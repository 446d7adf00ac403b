"""Owns what a worker knows of channels' health: what it saw since it last told the store, and what it was told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from paymesh.payments.channels.health import UNKNOWN, ChannelHealthStore, Place, Seen, Standing
from paymesh.payments.denial import Unavailable
from paymesh.payments.policy.channel_rules import Watch

REPORT_S = 0.5
_LOG = logging.getLogger(__name__)
_NONE: Mapping[str, Standing] = {}
Watched = Callable[[], Mapping[str, tuple[Watch, ...]]]
"""By channel, how its outcomes are counted: the policy's, as it is now."""


@dataclass(slots=True)
class _Seeing:
    worked: int = 0
    failed: int = 0
    last_failed: int = 0


class ChannelGuard:
    """Sits between the ends of payments and the decisions, which ask how channels stand. Neither waits.

    Implements `ChannelHealth`.
    """

    def __init__(
        self,
        store: ChannelHealthStore,
        watched: Watched,
        interval_s: float = REPORT_S,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        is_down: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`clock_ns`: monotonic. `is_down`: what Envoy's health checks say of a service."""
        self._is_down = is_down
        self._store = store
        self._watched = watched
        self._interval_s = interval_s
        self._clock_ns = clock_ns
        self._seen: dict[str, _Seeing] = {}
        self._standings: dict[str, dict[str, Standing]] = {}
        """By the watch's name, then by channel."""
        self._away = False

    def standings(self, watch: Watch) -> Mapping[str, Standing]:
        return self._standings.get(watch.name, _NONE)

    def is_down(self, service: str) -> bool:
        return self._is_down(service)

    def observe(self, channel: str, *, worked: bool) -> None:
        """A payment through it is over."""
        seen = self._seen.get(channel)
        if seen is None:
            seen = self._seen[channel] = _Seeing()
        if worked:
            seen.worked += 1
            seen.last_failed = 0
        else:
            seen.failed += 1
            seen.last_failed += 1

    async def run(self) -> None:
        """Tell and hear, until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.exchange()

    async def exchange(self) -> None:
        """Tell the store what was seen, and hear how every channel stands. Without it all stands as it did, and what
        was seen is dropped: a call that failed may have told it, and by the next time it is old."""
        error: Unavailable | None = None
        watched, told, self._seen = self._watched(), self._seen, {}
        for channel, watches in watched.items():
            seeing = told.get(channel, _Seeing())
            seen = Seen(seeing.worked, seeing.failed, seeing.last_failed)
            for watch in watches:
                try:
                    standing = await self._store.report(channel, watch, seen, self._clock_ns())
                except Unavailable as caught:  # of a cluster a part may be away: the others are told all the same
                    error = caught
                else:
                    self._keep(channel, watch, standing)
        self._forget_others(watched)
        if error is not None and not self._away:
            _LOG.warning("channel health not shared: all stands as it did", extra={"fields": {"error": str(error)}})
        self._away = error is not None

    def _keep(self, channel: str, watch: Watch, standing: Standing) -> None:
        before = self.standings(watch).get(channel, UNKNOWN).place
        if standing.place is not before and Place.IN in (standing.place, before):
            said = "a channel is in again" if standing.place is Place.IN else "a channel is out: its payments fail"
            counts = {"worked": standing.recent.worked, "failed": standing.recent.failed}
            _LOG.warning(said, extra={"fields": {"channel": channel, "window_s": watch.window_s, **counts}})
        self._standings.setdefault(watch.name, {})[channel] = standing

    def _forget_others(self, watched: Mapping[str, tuple[Watch, ...]]) -> None:
        kept = {(watch.name, channel) for channel, watches in watched.items() for watch in watches}
        for name, standings in list(self._standings.items()):
            for channel in [one for one in standings if (name, one) not in kept]:
                del standings[channel]
            if not standings:
                del self._standings[name]
