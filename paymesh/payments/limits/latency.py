"""Owns limits that shrink while a service is slow: how slow is judged, how far a limit shrinks, how it grows back.

p95 is over a bound when more than one in twenty exchanges took longer than the bound: counting those says exactly that,
and two counts need no histogram. A limit shrinks by a factor and grows by a step (additive increase, multiplicative
decrease, as TCP's congestion control, RFC 5681), once a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

WHOLE = 10_000
"""A share that shrinks nothing."""
IDLE_S = 60
"""What was counted is stale when nobody reported for so long: no worker uses the limit, or none reached the store."""
_ONE_IN = 20
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LatencySettings:
    """Shares are of WHOLE. `p95_ms`: the bound. `window_s`: how often it is judged, by at least `min_samples`."""

    p95_ms: int
    window_s: int = 5
    min_samples: int = 20
    floor: int = 1_000
    shrink_to: int = 8_000
    """What is left of a share after a slow window."""
    grow_by: int = 500


def next_share(share: int, over: int, total: int, settings: LatencySettings) -> int:
    """After a window in which `over` of `total` exchanges took longer than the bound."""
    slow = over * _ONE_IN > total
    if slow and total < settings.min_samples:
        return share  # too few to shrink it, and no reason to let more through
    changed = share * settings.shrink_to // WHOLE if slow else share + settings.grow_by
    return min(WHOLE, max(settings.floor, changed))


def share_after_silence(share: int, silent_ns: int, settings: LatencySettings) -> int:
    """After IDLE_S or more without a report: grown back by a step for each window in it, as if nothing had been slow.
    At once would let a crowd at a service that was slow when it was last heard of."""
    windows = silent_ns // max(1, settings.window_s * _SECOND_NS)
    return min(WHOLE, max(settings.floor, share + settings.grow_by * windows))


class LatencyStore(Protocol):
    """Counts for all workers. A key is a limit's name and the service or channel that it goes by."""

    async def report(self, key: tuple[str, str], settings: LatencySettings, over: int, total: int, now_ns: int) -> int:
        """Add what a worker saw, and hear the share in force. A window that is over is judged once, whoever reports
        first. `now_ns` is monotonic; a store that is shared goes by its own clock. Raises Unavailable."""
        ...


@dataclass(slots=True)
class _Window:
    share: int
    over: int
    total: int
    began_ns: int
    reported_ns: int


class InProcessLatencies:
    """Implements `LatencyStore`."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], _Window] = {}

    async def report(self, key: tuple[str, str], settings: LatencySettings, over: int, total: int, now_ns: int) -> int:
        window = self._windows.setdefault(key, _Window(WHOLE, 0, 0, now_ns, now_ns))
        silent_ns = now_ns - window.reported_ns
        if silent_ns >= IDLE_S * _SECOND_NS:
            share = share_after_silence(window.share, silent_ns, settings)
            window = self._windows[key] = _Window(share, 0, 0, now_ns, now_ns)
        elif silent_ns < 0:
            window.began_ns = now_ns  # the clock was set back: the window begins anew, what is known stays
        window.over += over
        window.total += total
        window.reported_ns = now_ns
        if now_ns - window.began_ns >= settings.window_s * _SECOND_NS:
            window.share = next_share(window.share, window.over, window.total, settings)
            window.over, window.total, window.began_ns = 0, 0, now_ns
        return window.share
