"""Owns the clusters: one a version of a service (endpoints over EDS), and the two of the deciding services."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream
from envoy_data_plane.google.protobuf import Any

from control_plane.resources.addresses import over_ads, static_endpoints
from control_plane.resources.names import EXT_AUTHZ_CLUSTER, EXT_PROC_CLUSTER, version_cluster
from control_plane.resources.tracing import tracing_cluster
from control_plane.settings import GatewaySettings
from paymesh.payments.policy.compiled import Policy, Service, ServiceVersion

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_NO_LIMIT = 1_000_000
"""Envoy's default breaker of 1,024 requests would refuse payments for want of a decision; the timeout bounds them."""

_IDLE = datetime.timedelta(seconds=4)
"""Shorter than servers keep an idle connection (Node: 5 s). A payment sent into one that the service is just closing
cannot be sent again, and its outcome would be unknown."""
_HTTP1 = upstream.HttpProtocolOptions(
    common_http_protocol_options=core.HttpProtocolOptions(idle_timeout=_IDLE),
    explicit_http_config=upstream.HttpProtocolOptionsExplicitHttpConfig(
        http_protocol_options=core.Http1ProtocolOptions()
    ),
)


_SERVING = core.HealthCheck(
    # One worker that is gone must not fail its share of the requests; the only one has nobody to stand in for it.
    grpc_health_check=core.HealthCheckGrpcHealthCheck(),
    timeout=datetime.timedelta(seconds=1),
    interval=datetime.timedelta(seconds=1),
    no_traffic_interval=datetime.timedelta(seconds=1),
    unhealthy_threshold=2,
    healthy_threshold=1,
)


def build_clusters(policy: Policy, settings: GatewaySettings) -> dict[str, bytes]:
    """Every cluster by name, serialised."""
    built = [_version(service, version) for service in policy.services.values() for version in service.versions]
    built.append(_grpc(EXT_AUTHZ_CLUSTER, settings.ext_authz))
    built.append(_grpc(EXT_PROC_CLUSTER, settings.ext_proc))
    built += [item for item in (tracing_cluster(policy.tracing),) if item is not None]
    return {item.name: bytes(item) for item in built}


def _version(service: Service, version: ServiceVersion) -> cluster.Cluster:
    return cluster.Cluster(
        name=version_cluster(service.name, version.name),
        type=cluster.ClusterDiscoveryType.EDS,
        eds_cluster_config=cluster.ClusterEdsClusterConfig(eds_config=over_ads()),
        connect_timeout=datetime.timedelta(milliseconds=service.connect_timeout_ms),
        typed_extension_protocol_options={_HTTP_OPTIONS: Any.pack(_HTTP1)},
    )


def _grpc(name: str, workers: Sequence[tuple[str, int]]) -> cluster.Cluster:
    keepalive = core.KeepaliveSettings(interval=datetime.timedelta(seconds=30), timeout=datetime.timedelta(seconds=5))
    http2 = upstream.HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=core.Http2ProtocolOptions(connection_keepalive=keepalive)
    )
    threshold = cluster.CircuitBreakersThresholds(
        max_connections=_NO_LIMIT, max_pending_requests=_NO_LIMIT, max_requests=_NO_LIMIT
    )
    return cluster.Cluster(
        name=name,
        type=cluster.ClusterDiscoveryType.STATIC,
        connect_timeout=datetime.timedelta(milliseconds=500),
        load_assignment=static_endpoints(name, workers),
        health_checks=[_SERVING] if len(workers) > 1 else [],
        circuit_breakers=cluster.CircuitBreakers(thresholds=[threshold]),
        typed_extension_protocol_options={
            _HTTP_OPTIONS: Any.pack(upstream.HttpProtocolOptions(explicit_http_config=http2))
        },
    )
