"""Owns what the control plane counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from control_plane.gateway import Gateway


class Metrics:
    """For Prometheus."""

    def __init__(self, registry: CollectorRegistry, gateway: Gateway) -> None:
        self._results = Counter(
            "paymesh_xds_results", "Answers of Envoys to what they were sent.", ["type", "result"], registry=registry
        )
        nodes = Gauge("paymesh_xds_nodes", "Connected Envoys.", registry=registry)
        nodes.set_function(lambda: len(gateway.nodes))
        held = Gauge(
            "paymesh_xds_nodes_held",
            "Envoys that refused what the others run and have an older one.",
            registry=registry,
        )
        held.set_function(lambda: sum(bool(gateway.fleet.held(node)) for node in gateway.nodes))
        rolled_back = Gauge(
            "paymesh_xds_rolled_back", "1 while the fleet does not run what was published last.", registry=registry
        )
        rolled_back.set_function(lambda: int(gateway.rolled_back is not None))
        self._gateway = gateway
        self._weights = Gauge(
            "paymesh_set_weight_ratio", "Set weight, 0 to 1.", ["service", "version"], registry=registry
        )

    def result(self, type_name: str, acknowledged: bool) -> None:
        self._results.labels(type=type_name, result="ack" if acknowledged else "nack").inc()

    def weights(self) -> None:
        """Take over the weights in force."""
        self._weights.clear()
        for service, split in self._gateway.weights.items():
            for version, weight in split.items():
                self._weights.labels(service=service, version=version).set(weight / 10_000)
