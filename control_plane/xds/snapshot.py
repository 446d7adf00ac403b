"""Owns a whole configuration for Envoy: serialised resources, versions that are hashes of content, checked references.

Refuses to hold what Envoy would refuse for a missing reference or weights that do not add up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar, cast

from control_plane.resources.clusters import build_clusters
from control_plane.resources.endpoints import Hosts, build_endpoints
from control_plane.resources.listener import build_listener
from control_plane.resources.names import (
    CLUSTER_TYPE,
    ENDPOINT_TYPE,
    LISTENER_TYPE,
    ROUTE_TYPE,
    SECRET_TYPE,
    TYPES,
)
from control_plane.resources.route_cache import RouteCache
from control_plane.resources.routes import build_routes
from control_plane.resources.secrets import build_secrets
from control_plane.settings import GatewaySettings
from paymesh.payments.internal_names import version_cluster
from paymesh.payments.policy.compiled import TOTAL_WEIGHT, Policy
from paymesh.payments.releases.traffic import NO_RULES, Rules, Traffic

T = TypeVar("T")
Weights = Mapping[str, Mapping[str, int]]
"""Service -> version -> weight; each service's weights add up to TOTAL_WEIGHT."""
_DERIVED = 64
"""Nodes ask for few different sets of names: as many answers are kept."""


class InconsistentSnapshot(Exception):  # noqa: N818 - it names what was found
    """Something in the snapshot refers to what is not in it. A bug of ours: nothing is published."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Resources by type URL and name, and the weights and rules they were built with. What is derived from it is made
    once, for all streams."""

    resources: Mapping[str, Mapping[str, bytes]]
    versions: Mapping[str, str]
    weights: Weights
    rules: Mapping[str, Rules] = field(default_factory=dict)
    """Of releases, by service; a service without any has none here."""
    _derived: dict[tuple[str, str, frozenset[str] | None], Any] = field(default_factory=dict, repr=False, compare=False)

    def resource_versions(self, type_url: str) -> Mapping[str, str]:
        """Of each resource a hash of its content, by name."""
        return self._once(
            ("versions", type_url, None),
            lambda: {name: hash_of(data) for name, data in self.resources[type_url].items()},
        )

    def encoded(self, type_url: str, names: frozenset[str] | None, encode: Callable[[], bytes]) -> bytes:
        """What `encode` makes of the resources of these names (None: of all), made once."""
        return self._once(("encoded", type_url, names), encode)

    def _once(self, key: tuple[str, str, frozenset[str] | None], make: Callable[[], T]) -> T:
        found = self._derived.get(key)
        if found is None:
            if len(self._derived) >= _DERIVED:
                self._derived.clear()
            found = self._derived[key] = make()
        return cast("T", found)


def build_snapshot(
    policy: Policy,
    weights: Weights,
    settings: GatewaySettings,
    found: Hosts = MappingProxyType({}),
    kept: Mapping[str, bytes] = MappingProxyType({}),
    zone: str = "",
    routes: RouteCache | None = None,
    rules: Mapping[str, Rules] = MappingProxyType({}),
) -> Snapshot:
    """The configuration for this policy and these weights; `found`, `kept` and `zone` as `build_endpoints` takes them,
    `routes` as `build_routes`; `rules`: of releases, by service. Raises InconsistentSnapshot."""
    _check(policy, weights)
    rules = {name: rules.get(name, NO_RULES) for name in weights}
    splits = {name: Traffic(split, rules[name]) for name, split in weights.items()}
    resources = {
        CLUSTER_TYPE: build_clusters(policy, settings),
        SECRET_TYPE: build_secrets(policy, settings),
        ENDPOINT_TYPE: build_endpoints(policy, found, kept, zone),
        LISTENER_TYPE: build_listener(policy, settings),
        ROUTE_TYPE: build_routes(policy, splits, routes),
    }
    missing = resources[ENDPOINT_TYPE].keys() - resources[CLUSTER_TYPE].keys()
    if missing:
        raise InconsistentSnapshot(f"endpoints without a cluster: {sorted(missing)}")
    versions = {type_url: _version(resources[type_url]) for type_url in TYPES}
    return Snapshot(resources, versions, {name: dict(split) for name, split in weights.items()}, rules)


def _check(policy: Policy, weights: Weights) -> None:
    for service in policy.services.values():
        split = weights.get(service.name, {})
        if list(split) != [version.name for version in service.versions]:
            raise InconsistentSnapshot(f"{service.name}: the weights name other versions than the policy, or reordered")
        # Envoy and gRPC refuse a sum of zero; any other sum than the constant one would reshuffle merchants.
        if sum(split.values()) != TOTAL_WEIGHT or min(split.values()) < 0:
            raise InconsistentSnapshot(f"{service.name}: the weights add up to {sum(split.values())}")
        for version in service.versions:
            if not version.endpoints and version.dns is None and version.endpoints_file is None:
                raise InconsistentSnapshot(f"{version_cluster(service.name, version.name)} has no endpoint")


def _version(resources: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(resources):
        digest.update(f"{name}\0{len(resources[name])}\0".encode())
        digest.update(resources[name])
    return digest.hexdigest()[:16]


def hash_of(data: bytes) -> str:
    """The version of a resource."""
    return hashlib.sha256(data).hexdigest()[:16]
