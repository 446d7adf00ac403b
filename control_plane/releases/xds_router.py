"""Owns carrying out a release's weights over xDS: the gateway records and publishes them, nodes confirm them."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.gateway import Gateway
from paymesh.payments.releases.plan import Weights


class XdsRouter:
    """`runner.Router` over the Envoys of this control plane."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def versions(self, service: str) -> tuple[str, ...] | None:
        found = self._gateway.policy.services.get(service)
        return None if found is None else tuple(version.name for version in found.versions)

    def set_weights(self, service: str) -> Weights:
        return self._gateway.weights.get(service, {})

    def actual_weights(self, service: str) -> Mapping[str, int] | None:
        return self._gateway.actual_weights(service)

    async def apply(self, service: str, weights: Weights, who: str, why: str) -> None:
        await self._gateway.set_weights(service, weights, who, why)
