"""Owns counting what one version did: in seconds for the last quarter of an hour, and since the process began."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from paymesh.payments.money import Money
from paymesh.payments.releases.analysis import Counted, Histogram, quantile
from paymesh.payments.releases.checks import Counting
from paymesh.payments.releases.exposure import Exposure

KEPT_S = 900
BOUNDS_MS = (
    *(1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700),
    *(1_000, 1_500, 2_000, 3_000, 5_000, 7_000, 10_000, 15_000, 30_000, 60_000, 300_000),
)
"""Upper bounds of the latencies' buckets; what is longer counts as the last."""
MAX_CURRENCIES = 64
"""Whoever is allowed to name currencies does not fill the memory with them."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that was let in and is over. `well`: what it says of the service as a payment; None: nothing, or it
    is no payment. `service_ms`: the service's own time; None: it never answered. `money`: of a payment that reached
    the service."""

    operation: str
    outcome: str
    failed: bool
    well: bool | None
    service_ms: int | None
    without_host: bool
    money: Money | None


@dataclass(slots=True)
class _Second:
    at_s: int
    requests: int = 0
    failed: int = 0
    well: int = 0
    unwell: int = 0
    without_host: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By operation and outcome."""
    latencies: Counter[int] = field(default_factory=Counter)
    """By upper bound."""


@dataclass(frozen=True, slots=True)
class Sample:
    """`at_s`: Unix seconds at its begin. `p99_ms` 0: nothing was answered."""

    at_s: int
    requests: int
    errors: int
    p99_ms: int


class VersionCounts:
    """Of one version. Times are Unix seconds. What comes drives out what is old: without traffic the last is kept."""

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque()
        self.total = Exposure()
        self.latencies: Counter[int] = Counter()
        """Since the process began, by upper bound in ms."""

    def add(self, exchange: Exchange, now_s: int) -> None:
        if not self._seconds or self._seconds[-1].at_s < now_s:
            self._seconds.append(_Second(now_s))
        while self._seconds[0].at_s < now_s - KEPT_S:
            self._seconds.popleft()
        second = self._seconds[-1]
        second.requests += 1
        second.failed += exchange.failed
        second.well += exchange.well is True
        second.unwell += exchange.well is False
        second.without_host += exchange.without_host
        second.outcomes[exchange.operation, exchange.outcome] += 1
        if exchange.service_ms is not None:
            bound = BOUNDS_MS[min(bisect_left(BOUNDS_MS, exchange.service_ms), len(BOUNDS_MS) - 1)]
            second.latencies[bound] += 1
            self.latencies[bound] += 1
        self.total += Exposure(
            requests=1,
            errors=int(exchange.failed),
            payments=int(exchange.well is not None),
            payments_failed=int(exchange.well is False),
            amounts=self._amounts(exchange),
        )

    @property
    def last_s(self) -> int:
        """When something ended last; 0: never."""
        return self._seconds[-1].at_s if self._seconds else 0

    def counted(self, counting: Counting, since_s: int, operation: str, outcome: str) -> Counted:
        """What `Counting` says; `operation` and `outcome` are of a business counter."""
        found = Counted(0, 0)
        for second in self._since(since_s):
            found += _counted(second, counting, operation, outcome)
        return found

    def histogram(self, since_s: int) -> Histogram:
        found: Counter[int] = Counter()
        for second in self._since(since_s):
            found.update(second.latencies)
        return found

    def without_host(self, since_s: int) -> int:
        return sum(second.without_host for second in self._since(since_s))

    def seconds(self, since_s: int, until_s: int) -> Sample:
        """All that ended between these, as one sample."""
        chosen = [second for second in self._since(since_s) if second.at_s < until_s]
        latencies: Counter[int] = Counter()
        for second in chosen:
            latencies.update(second.latencies)
        requests, errors = sum(one.requests for one in chosen), sum(one.failed for one in chosen)
        return Sample(since_s, requests, errors, quantile(latencies, 0.99) if latencies else 0)

    def _since(self, since_s: int) -> Iterator[_Second]:
        for second in reversed(self._seconds):
            if second.at_s < since_s:
                return
            yield second

    def _amounts(self, exchange: Exchange) -> Mapping[str, int]:
        if exchange.money is None:
            return {}
        currency = exchange.money.currency
        if currency not in self.total.amounts and len(self.total.amounts) >= MAX_CURRENCIES:
            return {}
        return {currency: exchange.money.amount}


def _counted(second: _Second, counting: Counting, operation: str, outcome: str) -> Counted:
    match counting:
        case Counting.REQUESTS:
            return Counted(second.requests - second.failed, second.requests)
        case Counting.PAYMENTS:
            return Counted(second.well, second.well + second.unwell)
        case Counting.OUTCOME:
            total = sum(count for (of, _), count in second.outcomes.items() if of == operation)
            return Counted(total - second.outcomes[operation, outcome], total)
