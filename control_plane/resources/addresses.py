"""Owns socket addresses and statically known gRPC clusters' endpoints as envoy-data-plane messages."""

from __future__ import annotations

from collections.abc import Sequence

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint


def socket_address(address: tuple[str, int]) -> core.Address:
    return core.Address(socket_address=core.SocketAddress(address=address[0], port_value=address[1]))


def static_endpoints(cluster: str, addresses: Sequence[tuple[str, int]]) -> endpoint.ClusterLoadAssignment:
    hosts = [endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=socket_address(address))) for address in addresses]
    return endpoint.ClusterLoadAssignment(
        cluster_name=cluster, endpoints=[endpoint.LocalityLbEndpoints(lb_endpoints=hosts)]
    )


def over_ads() -> core.ConfigSource:
    return core.ConfigSource(ads=core.AggregatedConfigSource(), resource_api_version=core.ApiVersion.V3)
