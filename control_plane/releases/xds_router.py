"""Owns carrying out a release's traffic over xDS: the gateway records and publishes it, nodes confirm it."""

from __future__ import annotations

from control_plane.gateway import Gateway
from paymesh.payments.releases.traffic import Traffic


class XdsRouter:
    """`runner.Router` over the Envoys of this control plane."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._rollbacks: dict[str, int] = {}
        """So many there were when a service's traffic was set last."""

    def versions(self, service: str) -> tuple[str, ...] | None:
        found = self._gateway.policy.services.get(service)
        return None if found is None else tuple(version.name for version in found.versions)

    def traffic(self, service: str) -> Traffic | None:
        return self._gateway.traffic(service)

    def actual(self, service: str) -> Traffic | None:
        return self._gateway.actual_traffic(service)

    def refused(self, service: str) -> str:
        """Of nodes that are held back any refusal counts: they do not have this service's traffic either."""
        rolled_back = self._gateway.rolled_back
        if rolled_back is not None and self._gateway.rollbacks > self._rollbacks.get(service, 0):
            return str(rolled_back)
        found = ((node.id, self._gateway.fleet.held(node)) for node in self._gateway.nodes)
        return next((f"node {name} refuses {why}" for name, why in found if why), "")

    async def apply(self, service: str, wanted: Traffic, who: str, why: str) -> None:
        """Raises UnknownService, InvalidWeights, sqlite3.Error."""
        before = self._gateway.rollbacks
        await self._gateway.set_weights(service, wanted.weights, who, why, wanted.rules)
        self._rollbacks[service] = before
