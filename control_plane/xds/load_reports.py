"""Owns what Envoys report of their upstreams (LRS): requests by cluster, counted as answered, failed and in flight.

A source of release analysis that needs no other system, and metrics. What Envoy calls an error is an answer of 500 and
above, or none. Source: envoy.service.load_stats.v3.LoadReportingService.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import grpc
from envoy.service.load_stats.v3 import lrs_pb2, lrs_pb2_grpc
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

INTERVAL_S = 1
"""How often Envoys report; a canary step may be that short in a test, and a report is a few hundred bytes."""
KEPT_S = 900.0


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that ended."""

    successes: int = 0
    errors: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(self.successes + other.successes, self.errors + other.errors)

    def __bool__(self) -> bool:
        return bool(self.successes or self.errors)


@dataclass(slots=True)
class _Cluster:
    total: Load = Load()
    recent: deque[tuple[float, Load]] = field(default_factory=deque)
    in_progress: dict[int, int] = field(default_factory=dict)
    """By stream."""


class LoadReports(Collector):
    """All connected Envoys together. `clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clusters: dict[str, _Cluster] = {}

    def since(self, cluster: str, seconds: float) -> Load:
        """What ended within the last so many seconds; a report is up to INTERVAL_S old. What is older than KEPT_S goes
        when there is news: without traffic the last is kept."""
        known = self._clusters.get(cluster)
        if known is None:
            return Load()
        oldest = self._clock() - seconds
        return sum((load for at, load in known.recent if at >= oldest), start=Load())

    def in_progress(self, cluster: str) -> int:
        known = self._clusters.get(cluster)
        return 0 if known is None else sum(known.in_progress.values())

    def report(self, stream: int, request: lrs_pb2.LoadStatsRequest) -> None:
        """Take over one report of one stream."""
        now = self._clock()
        for stats in request.cluster_stats:
            known = self._clusters.setdefault(stats.cluster_name, _Cluster())
            zones = stats.upstream_locality_stats
            load = Load(
                sum(zone.total_successful_requests for zone in zones), sum(zone.total_error_requests for zone in zones)
            )
            known.in_progress[stream] = sum(zone.total_requests_in_progress for zone in zones)
            if load:
                known.total += load
                known.recent.append((now, load))
                while known.recent[0][0] < now - KEPT_S:
                    known.recent.popleft()

    def gone(self, stream: int) -> None:
        """The stream ended: nothing is known to be in flight there."""
        for known in self._clusters.values():
            known.in_progress.pop(stream, None)

    def keep(self, clusters: frozenset[str]) -> None:
        """Forget all others."""
        for name in self._clusters.keys() - clusters:
            del self._clusters[name]

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """For Prometheus."""
        ended = CounterMetricFamily(
            "paymesh_upstream_requests", "Requests that ended, as Envoys report them.", labels=["cluster", "result"]
        )
        flying = GaugeMetricFamily(
            "paymesh_upstream_requests_in_progress", "Requests in flight, as Envoys report them.", labels=["cluster"]
        )
        for name in sorted(self._clusters):
            ended.add_metric([name, "success"], self._clusters[name].total.successes)
            ended.add_metric([name, "error"], self._clusters[name].total.errors)
            flying.add_metric([name], self.in_progress(name))
        yield ended
        yield flying


class LoadReporting(lrs_pb2_grpc.LoadReportingServiceServicer):  # type: ignore[misc]
    """`envoy.service.load_stats.v3.LoadReportingService`. Streams end once draining."""

    def __init__(self, reports: LoadReports, draining: asyncio.Event) -> None:
        self._reports = reports
        self._draining = draining
        self._streams = 0

    async def StreamLoadStats(  # noqa: N802 - the method's name in the .proto
        self,
        requests: AsyncIterator[lrs_pb2.LoadStatsRequest],
        _: grpc.aio.ServicerContext[lrs_pb2.LoadStatsRequest, lrs_pb2.LoadStatsResponse],
    ) -> AsyncIterator[lrs_pb2.LoadStatsResponse]:
        self._streams += 1
        stream = self._streams
        answer = lrs_pb2.LoadStatsResponse(send_all_clusters=True)
        answer.load_reporting_interval.seconds = INTERVAL_S
        yield answer
        reading = asyncio.create_task(self._read(stream, requests))
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({reading, draining}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, draining):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, grpc.RpcError):
                    await task
            self._reports.gone(stream)

    async def _read(self, stream: int, requests: AsyncIterator[lrs_pb2.LoadStatsRequest]) -> None:
        async for request in requests:
            self._reports.report(stream, request)
