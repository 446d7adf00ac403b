"""Owns the payments of a simulated release: how many each version gets, and what comes of them. Pure for a seed."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from random import Random

from paymesh.cli.release.binomial import binomial
from paymesh.payments.releases.analysis import Counted, Histogram
from paymesh.payments.releases.traffic import TOTAL


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Of one version. `success`: chance of a payment, 0 to 1. `latency_ms`: half of its answers take half of it at
    most, all of them this long at most; so it is the 99th percentile too."""

    success: float
    latency_ms: int


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated. `pinned`: of 10,000 payments, those that pins send to the target once there are any."""

    stable: Behaviour
    target: Behaviour
    payments_per_second: int
    pinned: int
    seed: int


@dataclass(frozen=True, slots=True)
class Seen:
    """Of both versions, over some time."""

    stable: Counted
    target: Counted


class SimulatedTraffic:
    """Keeps what came in the window of a step, as the analysis is to see it."""

    def __init__(self, world: World, window_s: int) -> None:
        self._world = world
        self._window_s = window_s
        self._random = Random(world.seed)  # noqa: S311 - it has to be the same each time
        self._kept: deque[tuple[int, Seen]] = deque()
        self._stable = self._target = Counted(0, 0)
        self._lately: deque[tuple[int, Counted]] = deque()
        """The stable version's, whatever the steps."""
        self._owed = 0
        """To the target: parts of a payment, 10,000 to one."""

    def forget(self) -> None:
        """A step begins: nothing before it counts."""
        self._kept.clear()
        self._stable = self._target = Counted(0, 0)

    def flow(self, now_s: int, seconds: int, share: int, *, pinned: bool) -> Seen:
        """So many seconds more, up to `now_s`, with the target's `share`, of 10,000. What the window then holds."""
        payments = self._world.payments_per_second * seconds
        given = share + ((TOTAL - share) * self._world.pinned // TOTAL if pinned else 0)
        to_target, self._owed = divmod(self._owed + payments * given, TOTAL)
        came = Seen(
            self._outcomes(payments - to_target, self._world.stable), self._outcomes(to_target, self._world.target)
        )
        self._kept.append((now_s, came))
        self._stable, self._target = self._stable + came.stable, self._target + came.target
        while self._kept and self._kept[0][0] <= now_s - self._window_s:
            _, old = self._kept.popleft()
            self._stable, self._target = _less(self._stable, old.stable), _less(self._target, old.target)
        self._lately.append((now_s, came.stable))
        while self._lately and self._lately[0][0] <= now_s - self._window_s:
            self._lately.popleft()
        # Without traffic of its own the stable version is what it was last.
        stable = self._stable if share < TOTAL else sum((one for _, one in self._lately), start=Counted(0, 0))
        return Seen(stable, self._target)

    def _outcomes(self, payments: int, behaviour: Behaviour) -> Counted:
        return Counted(binomial(self._random, payments, behaviour.success), payments)


def latencies(counted: Counted, behaviour: Behaviour) -> Histogram:
    """Of all these payments."""
    slow = counted.total // 2
    found = Counter({max(behaviour.latency_ms // 2, 1): counted.total - slow})
    found[behaviour.latency_ms] += slow
    return found


def _less(one: Counted, other: Counted) -> Counted:
    return Counted(one.well - other.well, one.total - other.total)
