"""Owns what Envoys' access logs tell of each version of each service that has several: what analysis counts, what a
release has exposed, who paid lately. In memory: a new process has seen nothing yet, and a check finds too few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from control_plane.releases.recent_merchants import RecentMerchants
from control_plane.releases.version_counts import BOUNDS_MS, Exchange, Sample, VersionCounts
from paymesh.payments import internal_names as names
from paymesh.payments.money import Money, read_money
from paymesh.payments.order_versions import version_of_cluster
from paymesh.payments.policy.compiled import Operation, Policy
from paymesh.payments.releases.analysis import Counted, Histogram, quantile
from paymesh.payments.releases.checks import Counting
from paymesh.payments.releases.exposure import Exposure, Recent
from paymesh.server.access_log import Finished
from paymesh.server.service_fault import request_failed, service_works

SAMPLES, SAMPLE_S = 30, 10
_RECENTLY_S = 300
_NO_HOST = "UH"


class Observed(Collector):
    """Implements the access log's `Listener`. `clock_s`: Unix seconds."""

    def __init__(self, policy: Callable[[], Policy], clock_s: Callable[[], int]) -> None:
        self._policy = policy
        self._clock_s = clock_s
        self._versions: dict[tuple[str, str], VersionCounts] = {}
        self._merchants: dict[str, RecentMerchants] = {}

    async def finished(self, exchange: Finished) -> None:
        said = exchange.decision
        found = version_of_cluster(exchange.upstream_cluster, self._policy())
        if found is None or said.get(names.META_DECISION) != names.DECISION_ALLOW:
            return
        pays = said.get(names.META_OPERATION) == Operation.PAY
        money = _money(said) if pays and exchange.reached_service else None
        one = Exchange(
            operation=said.get(names.META_OPERATION, ""),
            outcome=exchange.outcome,
            failed=request_failed(exchange),
            well=service_works(exchange) if pays else None,
            service_ms=None if exchange.service_s is None else round(exchange.service_s * 1000),
            without_host=_NO_HOST in exchange.flags,
            money=money,
        )
        now_s = self._clock_s()
        self._versions.setdefault((found.service, found.version), VersionCounts()).add(one, now_s)
        merchant = said.get(names.META_MERCHANT)
        if pays and merchant is not None:
            self._merchants.setdefault(found.service, RecentMerchants()).add(merchant, money, now_s)

    def counted(
        self, service: str, version: str, counting: Counting, since_s: int, operation: str = "", outcome: str = ""
    ) -> Counted:
        """What counts as well, of all, since then."""
        known = self._versions.get((service, version))
        return Counted(0, 0) if known is None else known.counted(counting, since_s, operation, outcome)

    def histogram(self, service: str, version: str, since_s: int) -> Histogram:
        """The service's own times."""
        known = self._versions.get((service, version))
        return {} if known is None else known.histogram(since_s)

    def last_s(self, service: str, version: str) -> int:
        """When something ended there last; 0: never."""
        known = self._versions.get((service, version))
        return 0 if known is None else known.last_s

    def p99_ms(self, service: str, version: str) -> int | None:
        """Of the last minutes; None: nothing was answered."""
        lately = self.histogram(service, version, self._clock_s() - _RECENTLY_S)
        return quantile(lately, 0.99) if lately else None

    def without_host(self, service: str, version: str, since_s: int) -> int:
        """Requests that found no healthy host there."""
        known = self._versions.get((service, version))
        return 0 if known is None else known.without_host(since_s)

    def totals(self, service: str, version: str) -> Exposure:
        """Since the process began."""
        known = self._versions.get((service, version))
        return Exposure() if known is None else known.total

    def samples(self, service: str, version: str) -> list[Sample]:
        """The last `SAMPLES` times `SAMPLE_S` seconds, oldest first."""
        known = self._versions.get((service, version))
        if known is None:
            return []
        begin = self._clock_s() // SAMPLE_S * SAMPLE_S - (SAMPLES - 1) * SAMPLE_S
        return [known.seconds(at, at + SAMPLE_S) for at in range(begin, begin + SAMPLES * SAMPLE_S, SAMPLE_S)]

    def recent_merchants(self, service: str) -> Mapping[str, Recent]:
        """Who paid within the last hour."""
        known = self._merchants.get(service)
        return {} if known is None else known.of_the_last_hour(self._clock_s())

    def keep(self, policy: Policy) -> None:
        """Forget what this policy has not."""
        versions = {(one.name, version.name) for one in policy.services.values() for version in one.versions}
        self._versions = {key: counts for key, counts in self._versions.items() if key in versions}
        self._merchants = {name: found for name, found in self._merchants.items() if name in policy.services}

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """For Prometheus: what a query may judge releases by."""
        labels = ["service", "version"]
        requests = CounterMetricFamily(
            "paymesh_version_requests", "Requests that ended, by version.", labels=[*labels, "result"]
        )
        payments = CounterMetricFamily(
            "paymesh_version_payments",
            "Payments by what they say about the service: works, fails.",
            labels=[*labels, "says"],
        )
        latencies = HistogramMetricFamily(
            "paymesh_version_duration_seconds", "The service's time to its first byte.", labels=labels
        )
        for key, counts in sorted(self._versions.items()):
            total = counts.total
            requests.add_metric([*key, "success"], total.requests - total.errors)
            requests.add_metric([*key, "error"], total.errors)
            payments.add_metric([*key, "works"], total.payments - total.payments_failed)
            payments.add_metric([*key, "fails"], total.payments_failed)
            latencies.add_metric(list(key), *_buckets(counts.latencies))
        yield from (requests, payments, latencies)


def _money(said: Mapping[str, str]) -> Money | None:
    try:
        return read_money(said.get(names.META_MONEY, ""))
    except ValueError:
        return None


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """As Prometheus has them, each with what is below; the sum is by upper bounds."""
    found: list[tuple[str, float]] = []
    below = 0
    for bound in BOUNDS_MS:
        below += histogram.get(bound, 0)
        found.append((f"{bound / 1000:g}", below))
    found.append(("+Inf", below))
    return found, sum(bound * count for bound, count in histogram.items()) / 1000
