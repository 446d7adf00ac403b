"""Owns giving back what a request holds of its limits: at its end, which Envoy's access log tells; at a refusal; and
when Envoy gives up the check.

Refuses to hold anybody up: what the store cannot take now is tried again beside, and at last left to the lease. The end
may come before the beginning: on an abort during the check the log's entry, which knows no decision then, comes first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ext_authz.order_ends import read_finish
from ext_authz.tries import Tries
from paymesh.payments import internal_names as names
from paymesh.payments.limits.demands import Instant, LimitStore
from paymesh.payments.limits.latency import WHOLE
from paymesh.payments.limits.latency_guard import LatencyGuard
from paymesh.payments.orders import Finish
from paymesh.payments.policy.compiled import Policy
from paymesh.server.access_log import Finished

_LOG = logging.getLogger(__name__)
_UNROUTED = "NR"
_WAITED_IN_VAIN = frozenset({"UT", "SI", "DT"})
"""Envoy's flags of a service that did not answer in time."""
_MS_PER_S = 1000


class Held:
    """What requests hold. Implements the access log's `Listener`."""

    def __init__(self, limits: LimitStore, policy: Callable[[], Policy], registry: CollectorRegistry) -> None:
        self._limits = limits
        self._policy = policy
        self._tries = Tries(self._give_up)
        self._returned = Counter(
            "paymesh_ext_authz_limits_returned",
            "Requests whose slots were freed, by who told: the log's entry, one without a decision, the check itself.",
            ["told_by"],
            registry=registry,
        )
        self._failed = Counter(
            "paymesh_ext_authz_limits_left_to_lease",
            "Requests whose slots could not be freed: their lease ends.",
            registry=registry,
        )
        waiting = Gauge(
            "paymesh_ext_authz_limits_ends_waiting", "Ends that shared state has yet to be told.", registry=registry
        )
        waiting.set_function(lambda: len(self._tries))

    async def finished(self, exchange: Finished) -> None:
        held = exchange.decision.get(names.META_HELD)
        if held is not None:
            # What an earlier attempt of the same order spent, its repeat does not spend again.
            repeated = names.META_REPLAYED in exchange.decision
            carried_out = not repeated and read_finish(exchange) not in (Finish.UNSENT, Finish.REFUSED)
            await self._end(exchange.request_id, held.split("\n"), "entry", carried_out=carried_out)
        elif not exchange.decision and exchange.request_id and self._may_be_held(exchange):
            await self._end(exchange.request_id, None, "undecided", carried_out=False)

    def void(self, request_id: str) -> None:
        """The request does not leave: whatever it took, or is about to take, comes back. Returns at once."""
        if not self._policy().holds_slots:
            return
        self._tries.tell_beside(lambda: self._told(request_id, None, "check", carried_out=False))

    async def close(self) -> None:
        """Give back what can be given back at once; the rest is left to its lease."""
        await self._tries.close()

    def _may_be_held(self, exchange: Finished) -> bool:
        """An entry without a decision is of a request that no check saw, unless Envoy says that something broke."""
        return bool(exchange.flags) and _UNROUTED not in exchange.flags and self._policy().holds_slots

    async def _end(self, request_id: str, held: Sequence[str] | None, told_by: str, *, carried_out: bool) -> None:
        await self._tries.tell(lambda: self._told(request_id, held, told_by, carried_out=carried_out))

    async def _told(self, request_id: str, held: Sequence[str] | None, told_by: str, *, carried_out: bool) -> None:
        now = Instant(time.monotonic_ns(), int(time.time()))
        await self._limits.end(request_id, held, carried_out=carried_out, now=now)
        self._returned.labels(told_by=told_by).inc()

    def _give_up(self) -> None:
        self._failed.inc()
        _LOG.warning("slots not freed: left to their lease")


class ServiceTimes(Collector):
    """Tells the latency limits how long services took. Implements the access log's `Listener`."""

    def __init__(self, latencies: LatencyGuard, policy: Callable[[], Policy], registry: CollectorRegistry) -> None:
        self._latencies = latencies
        self._policy = policy
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For Prometheus: what is left of each latency limit."""
        gauge = GaugeMetricFamily(
            "paymesh_ext_authz_limit_share", "What is left of a latency limit, 1 for all.", labels=["limit", "of"]
        )
        for key, share in self._latencies.shares.items():
            gauge.add_metric(key, share / WHOLE)
        yield gauge

    async def finished(self, exchange: Finished) -> None:
        route = self._policy().routes_by_name.get(exchange.decision.get(names.META_ROUTE, ""))
        for line in exchange.decision.get(names.META_TIMED, "").splitlines():
            name, _, value = line.partition(" ")
            limit = next((one for one in route.rate_limits if one.name == name), None) if route is not None else None
            if limit is not None and limit.latency is not None:
                took_s = exchange.service_s
                if took_s is None and exchange.flags & _WAITED_IN_VAIN:
                    took_s = exchange.duration_s
                if took_s is not None:  # else the client went, or nothing was reached: that says nothing
                    self._latencies.observe((name, value), limit.latency, round(took_s * _MS_PER_S))
