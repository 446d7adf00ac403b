"""Owns what the end of an exchange says about its channel: whether the channel works, fails, or nothing of the kind.

A payment's outcome counts, not the answer's status: a channel that politely says no to every payer works, and one whose
200 says that a bank is away does not. What is the payer's or the merchant's fault says nothing about the channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from paymesh.payments import internal_names as names
from paymesh.payments.channels.guard import ChannelGuard
from paymesh.payments.channels.health import UNKNOWN, Place
from paymesh.payments.outcome import Fault, Outcome
from paymesh.payments.policy.compiled import Operation, Policy
from paymesh.server.access_log import Finished

_WORKS = frozenset({Outcome.SUCCEEDED, Outcome.ACCEPTED})
_OUT_OF_REACH = frozenset({"UF", "UH", "UO", "UT", "URX", "LH", "DF"})
"""Envoy's flags where nothing was sent: no host, none healthy, none connected, too much under way there."""
_BROKE_OFF = frozenset({"UT", "UC", "UR", "UPE", "SI", "DT", "UMSDR"})
"""Envoy's flags of a service that did not answer, or stopped in the middle."""
_SERVER_ERROR = 500


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
        works = channel_works(exchange)
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


def channel_works(exchange: Finished) -> bool | None:
    """None: it says nothing about the channel."""
    if not exchange.reached_service:
        return False if exchange.flags & _OUT_OF_REACH else None  # else the client went, or we had no room
    if exchange.outcome in _WORKS:
        return True
    if exchange.fault:
        return False if exchange.fault == Fault.CHANNEL else None
    if exchange.outcome == Outcome.REFUSED:
        return None
    # Nobody read an answer: there was none, or it is not read on this route.
    return False if exchange.flags & _BROKE_OFF or exchange.status >= _SERVER_ERROR else None
