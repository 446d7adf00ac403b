"""Owns telling the channels' guard what came of payments, and counting it by channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from paymesh.payments import internal_names as names
from paymesh.payments.channels.guard import ChannelGuard
from paymesh.payments.channels.health import UNKNOWN, Place
from paymesh.payments.policy.compiled import Operation, Policy
from paymesh.server.access_log import Finished
from paymesh.server.service_fault import service_works


class ChannelOutcomes(Collector):
    """Tells the guard what came of payments. Implements the access log's `Listener`."""

    def __init__(self, guard: ChannelGuard, policy: Callable[[], Policy], registry: CollectorRegistry) -> None:
        self._guard = guard
        self._policy = policy
        self._counted = Counter(
            "paymesh_ext_authz_channel_outcomes",
            "Payments by what they say about their channel: works, fails, nothing.",
            ["channel", "says"],
            registry=registry,
        )
        registry.register(self)

    async def finished(self, exchange: Finished) -> None:
        said = exchange.decision
        channel = said.get(names.META_CHANNEL, "")
        allowed = said.get(names.META_DECISION) == names.DECISION_ALLOW
        if not allowed or said.get(names.META_OPERATION) != Operation.PAY or channel not in self._policy().channels:
            return
        works = service_works(exchange)
        if works is not None:
            self._guard.observe(channel, worked=works)
        says = "nothing" if works is None else "works" if works else "fails"
        self._counted.labels(channel=channel, says=says).inc()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For Prometheus: how the channels stand that a strategy watches."""
        rate = GaugeMetricFamily(
            "paymesh_ext_authz_channel_success_ratio",
            "Payments that succeeded or were accepted, of those that say something about the channel, in a window.",
            labels=["channel", "window_s"],
        )
        out = GaugeMetricFamily(
            "paymesh_ext_authz_channel_out", "1 while a channel is out for its failures.", labels=["channel"]
        )
        places: dict[str, Place] = {}
        ratios: dict[tuple[str, str], float] = {}
        for channel, watches in self._policy().channel_watches.items():
            for watch in watches:
                standing = self._guard.standings(watch).get(channel, UNKNOWN)
                if standing.recent.total:
                    ratios[channel, str(watch.window_s)] = standing.recent.worked / standing.recent.total
                places[channel] = max(places.get(channel, Place.IN), standing.place)
        for key, ratio in ratios.items():
            rate.add_metric(key, ratio)
        for channel, place in places.items():
            out.add_metric([channel], 0 if place is Place.IN else 1)
        yield rate
        yield out
