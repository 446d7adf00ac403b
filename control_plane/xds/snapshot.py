"""Owns a whole configuration for Envoy: serialised resources, versions that are hashes of content, checked references.

Refuses to hold what Envoy would refuse for a missing reference or weights that do not add up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.resources.clusters import build_clusters
from control_plane.resources.endpoints import build_endpoints
from control_plane.resources.listener import build_listener
from control_plane.resources.names import (
    CLUSTER_TYPE,
    ENDPOINT_TYPE,
    LISTENER_TYPE,
    ROUTE_TYPE,
    TYPES,
    version_cluster,
)
from control_plane.resources.routes import Weights, build_routes
from control_plane.settings import GatewaySettings
from paymesh.payments.policy.compiled import TOTAL_WEIGHT, Policy


class InconsistentSnapshot(Exception):  # noqa: N818 - it names what was found
    """Something in the snapshot refers to what is not in it. A bug of ours: nothing is published."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Resources by type URL and name, and the weights they were built with."""

    resources: Mapping[str, Mapping[str, bytes]]
    versions: Mapping[str, str]
    weights: Weights


def build_snapshot(policy: Policy, weights: Weights, settings: GatewaySettings) -> Snapshot:
    """The configuration for this policy and these weights. Raises InconsistentSnapshot."""
    _check(policy, weights)
    resources = {
        CLUSTER_TYPE: build_clusters(policy, settings),
        ENDPOINT_TYPE: build_endpoints(policy),
        LISTENER_TYPE: build_listener(policy, settings),
        ROUTE_TYPE: build_routes(policy, weights),
    }
    missing = resources[ENDPOINT_TYPE].keys() - resources[CLUSTER_TYPE].keys()
    if missing:
        raise InconsistentSnapshot(f"endpoints without a cluster: {sorted(missing)}")
    versions = {type_url: _version(resources[type_url]) for type_url in TYPES}
    return Snapshot(resources, versions, {name: dict(split) for name, split in weights.items()})


def _check(policy: Policy, weights: Weights) -> None:
    for service in policy.services.values():
        split = weights.get(service.name, {})
        if list(split) != [version.name for version in service.versions]:
            raise InconsistentSnapshot(f"{service.name}: the weights name other versions than the policy, or reordered")
        # Envoy and gRPC refuse a sum of zero; any other sum than the constant one would reshuffle merchants.
        if sum(split.values()) != TOTAL_WEIGHT or min(split.values()) < 0:
            raise InconsistentSnapshot(f"{service.name}: the weights add up to {sum(split.values())}")
        for version in service.versions:
            if not version.endpoints:
                raise InconsistentSnapshot(f"{version_cluster(service.name, version.name)} has no endpoint")


def _version(resources: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(resources):
        digest.update(f"{name}\0{len(resources[name])}\0".encode())
        digest.update(resources[name])
    return digest.hexdigest()[:16]
