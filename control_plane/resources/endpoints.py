"""Owns endpoints (EDS). Built with the compiled stubs: endpoints change often, and these serialise far faster."""

from __future__ import annotations

from envoy.config.endpoint.v3 import endpoint_pb2

from control_plane.resources.names import version_cluster
from paymesh.payments.policy.compiled import Policy, ServiceVersion


def build_endpoints(policy: Policy) -> dict[str, bytes]:
    """Every version's endpoints by cluster name, serialised."""
    found = {}
    for service in policy.services.values():
        for version in service.versions:
            name = version_cluster(service.name, version.name)
            found[name] = _assignment(name, version).SerializeToString(deterministic=True)
    return found


def _assignment(name: str, version: ServiceVersion) -> endpoint_pb2.ClusterLoadAssignment:
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    locality = message.endpoints.add()
    for endpoint in version.endpoints:
        address = locality.lb_endpoints.add().endpoint.address.socket_address
        address.address = endpoint.address
        address.port_value = endpoint.port
    return message
