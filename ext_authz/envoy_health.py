"""Owns what Envoy's health checks say of services, as its event log tells it: a file with a line of JSON a transition.

Refuses to take a silent Envoy for a healthy service or the other way: a host that no line named counts as healthy, as
Envoy itself takes one that it does not check. Source: envoy.data.core.v3.HealthCheckEvent, written by the event sink
`envoy.health_check.event_sinks.file`. Envoy, too, sends nothing to what it says is down; this only spares the payment
that would learn it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from paymesh.payments.internal_names import version_cluster
from paymesh.payments.policy.compiled import Policy

READ_EVERY_S = 0.5
MAX_LINE_BYTES = 65_536
_LOG = logging.getLogger(__name__)


class EnvoyHealth(Collector):
    """Which services have no healthy host left. `file` may not be there yet, be cut short, or be another one."""

    def __init__(self, file: Path, policy: Callable[[], Policy]) -> None:
        self._file = file
        self._policy = policy
        self._hosts: dict[str, dict[str, bool]] = {}
        """By cluster and host: whether it is healthy."""
        self._down: frozenset[str] = frozenset()
        self._inode = 0
        self._read_to = 0

    def is_down(self, service: str) -> bool:
        """Whether every host of every version is known to be unhealthy."""
        return service in self._down

    async def run(self) -> None:
        """Read what is new, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.read)
            except OSError as error:
                _LOG.warning("Envoy's health events cannot be read", extra={"fields": {"error": type(error).__name__}})
            await asyncio.sleep(READ_EVERY_S)

    def read(self) -> None:
        """What came since the last call; blocking. Raises OSError, except for a file that is not there."""
        for line in self._new_lines():
            self._take(line)
        down = frozenset(name for name in self._policy().services if self._all_unhealthy(name))
        for name in down ^ self._down:
            said = "a service has no healthy host" if name in down else "a service has healthy hosts again"
            _LOG.warning(said, extra={"fields": {"target": name}})
        self._down = down

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For Prometheus."""
        found = GaugeMetricFamily(
            "paymesh_ext_authz_service_down", "1 while Envoy finds no healthy host of a service.", labels=["service"]
        )
        for name in self._policy().services:
            found.add_metric([name], int(name in self._down))
        yield found

    def _new_lines(self) -> Iterator[bytes]:
        try:
            with self._file.open("rb") as opened:
                status = self._file.stat()
                if status.st_ino != self._inode or status.st_size < self._read_to:
                    # Another file: it begins anew, and so does what is known.
                    self._inode, self._read_to, self._hosts = status.st_ino, 0, {}
                opened.seek(self._read_to)
                while line := opened.readline(MAX_LINE_BYTES):
                    if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                        return  # half a line: the rest is being written
                    self._read_to += len(line)
                    yield line
        except FileNotFoundError:
            return

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            address = event["host"]["socket_address"]
            host, cluster = f"{address['address']}:{address['port_value']}", event["cluster_name"]
        except (ValueError, KeyError, TypeError):
            return  # of another kind, such as a host in a pipe
        hosts = self._hosts.setdefault(cluster, {})
        if "eject_unhealthy_event" in event:
            hosts[host] = False
        elif "add_healthy_event" in event or "successful_health_check_event" in event:
            hosts[host] = True
        elif event.get("health_check_failure_event", {}).get("first_check"):
            hosts[host] = False

    def _all_unhealthy(self, service: str) -> bool:
        for version in self._policy().services[service].versions:
            known = self._hosts.get(version_cluster(service, version.name), {})
            named = {f"{one.address}:{one.port}" for one in version.endpoints}
            # Hosts that the policy does not name are found by Envoy (DNS): then those that it told of are all.
            if not known or any(known.get(host, True) for host in named or known):
                return False
        return True
