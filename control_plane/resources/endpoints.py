"""Owns endpoints (EDS). Built with the compiled stubs: endpoints change often, and these serialise far faster."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from envoy.config.endpoint.v3 import endpoint_pb2

from control_plane.discovery.contract import Host
from paymesh.payments.internal_names import version_cluster
from paymesh.payments.policy.compiled import Policy, ServiceVersion

Hosts = Mapping[str, tuple[Host, ...]]
"""By cluster name, of versions whose hosts a registry finds."""


def build_endpoints(policy: Policy, found: Hosts, kept: Mapping[str, bytes], zone: str = "") -> dict[str, bytes]:
    """Every version's endpoints by cluster name, serialised. `kept`: those of an earlier process, for versions that no
    registry has answered for yet. `zone`: of the nodes that get it; hosts there go first, the others stand in."""
    built = {}
    for service in policy.services.values():
        for version in service.versions:
            if version.dns is not None:
                continue  # stands in the cluster
            name = version_cluster(service.name, version.name)
            hosts = _listed(version) if version.endpoints_file is None else found.get(name)
            built[name] = kept[name] if hosts is None and name in kept else _assignment(name, hosts or (), zone)
    return built


def zones_of(found: Hosts) -> frozenset[str]:
    """The zones that hosts stand in."""
    return frozenset(host.zone for hosts in found.values() for host in hosts if host.zone)


def _listed(version: ServiceVersion) -> tuple[Host, ...]:
    return tuple(Host(one.address, one.port) for one in version.endpoints)


@functools.lru_cache(maxsize=65_536)
def _assignment(name: str, hosts: tuple[Host, ...], zone: str) -> bytes:
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    zones = sorted({host.zone for host in hosts}, key=lambda one: (one != zone, one)) or [""]
    near = zone in zones
    for number, one in enumerate(zones):
        locality = message.endpoints.add()
        if one:
            locality.locality.zone = one
        if near and zone:
            locality.priority = min(number, 1)
        for host in hosts:
            if host.zone == one:
                _add(locality, host)
    return bytes(message.SerializeToString(deterministic=True))


def _add(locality: endpoint_pb2.LocalityLbEndpoints, host: Host) -> None:
    endpoint = locality.lb_endpoints.add()
    endpoint.endpoint.address.socket_address.address = host.address
    endpoint.endpoint.address.socket_address.port_value = host.port
    if host.weight != 1:
        endpoint.load_balancing_weight.value = host.weight
