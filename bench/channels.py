"""Owns two measurements of choosing a channel: how traffic leaves one that fails, and comes back; what a choice costs.

    python -m bench.channels

The first is in simulated time, over the real strategies, guard and store: two workers, a payment's end one second
after its beginning, every channel succeeding 99 times of 100 until one of them fails 30 of 100. Chance is seeded, so
every run prints the same. The second is of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from paymesh.payments.channels.guard import REPORT_S, ChannelGuard
from paymesh.payments.channels.health import InProcessChannelHealth
from paymesh.payments.channels.payment import Payment
from paymesh.payments.channels.select import select_channel
from paymesh.payments.fees import FeeSchedule, Part, Terms
from paymesh.payments.money import Money
from paymesh.payments.policy.callers import Merchant
from paymesh.payments.policy.channel_rules import (
    ByCost,
    ByPriority,
    ByRules,
    BySuccess,
    ByWeight,
    Eliminate,
    Elimination,
    Rule,
    Strategy,
    Watch,
    When,
)
from paymesh.payments.policy.compiled import Channel, Operation

SECOND_NS = 1_000_000_000
WORKERS = 2
TAKES_S = 1.0
"""From a payment's beginning to its end."""
FAILS_AT_S, RECOVERS_AT_S, ENDS_AT_S = 120, 300, 480
SUCCEEDS, FAILING = 0.99, 0.70
FAILED = "a"
"""The channel that fails: the cheapest one, and first by priority."""
SHOP = Merchant("shop", {})


def channel(name: str, priority: int, rate: str) -> Channel:
    fees = {"CNY": FeeSchedule(name, Part("standard", Terms(Decimal(rate))))}
    return Channel(name, name, frozenset({Operation.PAY}), None, frozenset({"CNY"}), 1, None, priority, fees)


CHANNELS = (channel("a", 10, "0.0038"), channel("b", 20, "0.0055"), channel("c", 30, "0.006"))
SUCCESS = BySuccess(Watch(60, 20), band=200, explore=500)
OUT = Eliminate(Watch(60, 20, Elimination(None, 2000, 10, 10)), probe_share=500, try_when_all_out=True)
SHARES = ByWeight({"a": 5000, "b": 3000, "c": 2000})
SCENARIOS: Sequence[tuple[str, tuple[Strategy, ...], int]] = (
    ("success_rate, lowest_cost", (SUCCESS, ByCost()), 50),
    ("success_rate, lowest_cost", (SUCCESS, ByCost()), 10),
    ("success_rate, weighted 50/30/20", (SUCCESS, SHARES), 50),
    ("eliminate, lowest_cost", (OUT, ByCost()), 50),
    ("eliminate, lowest_cost", (OUT, ByCost()), 10),
    ("eliminate, success_rate, lowest_cost", (OUT, SUCCESS, ByCost()), 50),
    ("lowest_cost alone", (ByCost(),), 50),
)


@dataclass(frozen=True, slots=True)
class Course:
    """What became of the traffic. `went`: for each second, how many payments went to the failing channel, of how
    many."""

    went: Sequence[tuple[int, int]]
    failed: int
    """Payments while the channel failed that failed, whatever channel had them."""
    began: int
    """Payments while the channel failed."""

    def share(self, from_s: int, until_s: int) -> float:
        """Of the failing channel, in a span of seconds."""
        seconds = self.went[from_s:until_s]
        return sum(went for went, _ in seconds) / sum(all_of for _, all_of in seconds)

    @property
    def usual(self) -> float:
        """Its share before it failed: the traffic that may be moved away."""
        return self.share(FAILS_AT_S - 60, FAILS_AT_S)

    @property
    def moved(self) -> float:
        """How much of its usual traffic was elsewhere, from 60 s after it failed until it recovered."""
        return 1 - self.share(FAILS_AT_S + 60, RECOVERS_AT_S) / self.usual

    @property
    def gone_after_s(self) -> int | None:
        """When it first had less than a fifth of its usual traffic over ten seconds."""
        return self._first(FAILS_AT_S, RECOVERS_AT_S, lambda share: share <= self.usual / 5)

    @property
    def back_after_s(self) -> int | None:
        """When it first had four fifths of it again after it recovered. None: not in the simulated time."""
        return self._first(RECOVERS_AT_S, ENDS_AT_S, lambda share: share >= self.usual * 4 / 5)

    @property
    def at_the_end(self) -> float:
        """Its share of its usual traffic in the last minute."""
        return self.share(ENDS_AT_S - 60, ENDS_AT_S) / self.usual

    def _first(self, from_s: int, until_s: int, holds: Callable[[float], bool]) -> int | None:
        return next((at_s - from_s for at_s in range(from_s + 10, until_s) if holds(self.share(at_s - 10, at_s))), None)


@dataclass(slots=True)
class _Simulation:
    strategies: Sequence[Strategy]
    per_second: int
    chance: random.Random
    now_ns: int = 0
    ends: list[tuple[int, int, str, bool]] = field(default_factory=list)
    """When, at which worker, through which channel, and whether it succeeded."""
    guards: list[ChannelGuard] = field(default_factory=list)

    async def run(self) -> Course:
        watches = tuple(one.watch for one in self.strategies if isinstance(one, BySuccess | Eliminate))
        watched = {one.name: watches for one in CHANNELS}
        store = InProcessChannelHealth()
        self.guards = [ChannelGuard(store, lambda: watched, clock_ns=lambda: self.now_ns) for _ in range(WORKERS)]
        went = [[0, 0] for _ in range(ENDS_AT_S)]
        began = failed = 0
        exchange_ns = 0
        for number in range(ENDS_AT_S * self.per_second):
            self.now_ns = number * SECOND_NS // self.per_second
            self._end_those_over()
            while exchange_ns <= self.now_ns:
                exchange_ns += round(REPORT_S * SECOND_NS)
                for guard in self.guards:
                    await guard.exchange()
            at_s = self.now_ns // SECOND_NS
            chosen, succeeds = self._pay(number, at_s)
            went[at_s][0] += chosen == FAILED
            went[at_s][1] += 1
            if FAILS_AT_S <= at_s < RECOVERS_AT_S:
                began += 1
                failed += not succeeds
        return Course([(one, all_of) for one, all_of in went], failed, began)

    def _pay(self, number: int, at_s: int) -> tuple[str, bool]:
        worker = number % WORKERS
        payment = Payment(Operation.PAY, None, Money(8_888, "CNY"), SHOP, f"order-{number}", at_s)
        selection = select_channel(CHANNELS, self.strategies, payment, self.guards[worker])
        assert selection.channel is not None
        name = selection.channel.name
        fails = name == FAILED and FAILS_AT_S <= at_s < RECOVERS_AT_S
        succeeds = self.chance.random() < (FAILING if fails else SUCCEEDS)
        heapq.heappush(self.ends, (self.now_ns + round(TAKES_S * SECOND_NS), worker, name, succeeds))
        return name, succeeds

    def _end_those_over(self) -> None:
        while self.ends and self.ends[0][0] <= self.now_ns:
            _, worker, name, succeeds = heapq.heappop(self.ends)
            self.guards[worker].observe(name, worked=succeeds)


def simulate(strategies: Sequence[Strategy], per_second: int, seed: int = 6) -> Course:
    """Two minutes of a healthy channel, three in which it fails, three after it recovered."""
    return asyncio.run(_Simulation(strategies, per_second, random.Random(seed)).run())


def courses() -> Iterator[tuple[str, int, Course]]:
    for name, strategies, per_second in SCENARIOS:
        yield name, per_second, simulate(strategies, per_second)


# -- what a choice costs -------------------------------------------------------------------------------------------

EIGHT = tuple(channel(f"channel-{number}", number, f"0.00{38 + number}") for number in range(8))
_PREFERRING = ByRules((Rule(When(min_amount=10**9), frozenset({"channel-0"}), only=False),))
_EIGHTHS = ByWeight({one.name: 1250 for one in EIGHT})
LISTS: Sequence[tuple[str, tuple[Strategy, ...]]] = (
    ("none (priority)", ()),
    ("weighted", (_EIGHTHS,)),
    ("lowest_cost", (ByCost(),)),
    ("success_rate, lowest_cost", (SUCCESS, ByCost())),
    ("eliminate, rules, success_rate, priority", (OUT, _PREFERRING, SUCCESS, ByPriority())),
    ("eliminate, rules, success_rate, lowest_cost, weighted", (OUT, _PREFERRING, SUCCESS, ByCost(), _EIGHTHS)),
)


async def _known(strategies: Sequence[Strategy]) -> ChannelGuard:
    """A guard that knows of 99 successes in 100 of every channel but one, which has 70."""
    watches = tuple(one.watch for one in strategies if isinstance(one, BySuccess | Eliminate))
    guard = ChannelGuard(InProcessChannelHealth(), lambda: {one.name: watches for one in EIGHT})
    for number in range(800):
        name = EIGHT[number % 8].name
        guard.observe(name, worked=number % 10 >= 3 if name == "channel-0" else number % 99 > 0)
    await guard.exchange()
    return guard


def microseconds(strategies: Sequence[Strategy], rounds: int = 20, each: int = 500) -> float:
    """Of one choice among eight channels, with its explanation: the median of the rounds."""
    guard = asyncio.run(_known(strategies))
    found = []
    for _ in range(rounds):
        payments = [
            Payment(Operation.PAY, "card", Money(8_888 + number, "CNY"), SHOP, f"order-{number}", 1_790_000_000)
            for number in range(each)
        ]
        began = time.perf_counter()
        for payment in payments:
            _ = select_channel(EIGHT, strategies, payment, guard).why
        found.append((time.perf_counter() - began) / each * 1e6)
    return statistics.median(found)


def main() -> int:
    """Print both tables."""
    argparse.ArgumentParser(prog="bench.channels", description=__doc__).parse_args()
    print("One of three channels fails 30% of its payments for three minutes (simulated time)\n")
    print("| strategies | payments/s | its usual share | moved away after 60 s | gone after | back after | failed |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, per_second, course in courses():
        gone, back = ("never" if at_s is None else f"{at_s} s" for at_s in (course.gone_after_s, course.back_after_s))
        failed = f"{course.failed / course.began:.1%}"
        print(f"| {name} | {per_second} | {course.usual:.0%} | {course.moved:.0%} | {gone} | {back} | {failed} |")
    print(f"\nA choice among eight channels: {os.cpu_count()} cores, {platform.machine()}, ", end="")
    print(f"Python {platform.python_version()}\n\n| strategies | us |\n|---|---:|")
    for name, strategies in LISTS:
        print(f"| {name} | {microseconds(strategies):.1f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
