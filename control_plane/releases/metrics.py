"""Owns what the control plane tells Prometheus of releases: where each one stands, and the weights that nodes have."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from control_plane.gateway import Gateway
from control_plane.releases.runner import ReleaseRunner
from paymesh.payments.releases.state import OVER
from paymesh.payments.releases.traffic import TOTAL


class ReleaseMetrics(Collector):
    """Releases that are over have no step."""

    def __init__(self, runner: ReleaseRunner, gateway: Gateway) -> None:
        self._runner = runner
        self._gateway = gateway

    def collect(self) -> Iterator[GaugeMetricFamily]:
        phases = GaugeMetricFamily(
            "paymesh_release_phase", "1 for the phase that a release is in.", labels=["release", "service", "phase"]
        )
        steps = GaugeMetricFamily("paymesh_release_step", "Step at work, from 1.", labels=["release", "service"])
        actual = GaugeMetricFamily(
            "paymesh_actual_weight_ratio",
            "Weight that every connected Envoy has confirmed, 0 to 1; absent while they differ.",
            labels=["service", "version"],
        )
        for name, release in self._runner.releases.items():
            phases.add_metric([name, release.plan.service, release.state.phase], 1)
            if release.state.phase not in OVER:
                steps.add_metric([name, release.plan.service], release.state.step + 1)
        for service in self._gateway.policy.services:
            for version, weight in (self._gateway.actual_weights(service) or {}).items():
                actual.add_metric([service, version], weight / TOTAL)
        yield from (phases, steps, actual)
