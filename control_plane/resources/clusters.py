"""Owns the clusters: one a version of a service (endpoints over EDS), and the two of the deciding services."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.clusters.common.dns.v3 import DnsLookupFamily
from envoy_data_plane.envoy.extensions.clusters.dns import v3 as dns_cluster
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any

from control_plane.resources import fallbacks
from control_plane.resources.addresses import over_ads, static_endpoints
from control_plane.resources.health_checks import health_check
from control_plane.resources.names import EXT_AUTHZ_CLUSTER, EXT_PROC_CLUSTER
from control_plane.resources.outlier_detection import outlier_detection
from control_plane.resources.secrets import DECIDING, upstream_tls
from control_plane.resources.tracing import tracing_cluster
from control_plane.settings import GatewaySettings
from paymesh.payments.internal_names import version_cluster
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.upstreams import Dns, HttpProtocol, LoadBalancing, Upstream, UpstreamTls

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_NO_LIMIT = 1_000_000
"""Envoy's default breaker of 1,024 requests would refuse payments for want of a decision; the timeout bounds them."""

_IDLE = datetime.timedelta(seconds=4)
"""Shorter than servers keep an idle connection (Node: 5 s). A payment sent into one that the service is just closing
cannot be sent again, and its outcome would be unknown."""
_HTTP1, _HTTP2 = (
    upstream.HttpProtocolOptions(
        common_http_protocol_options=core.HttpProtocolOptions(idle_timeout=_IDLE), explicit_http_config=spoken
    )
    for spoken in (
        upstream.HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=core.Http1ProtocolOptions()),
        upstream.HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=core.Http2ProtocolOptions()),
    )
)
_LOAD_BALANCING = {
    LoadBalancing.ROUND_ROBIN: cluster.ClusterLbPolicy.ROUND_ROBIN,
    LoadBalancing.LEAST_REQUEST: cluster.ClusterLbPolicy.LEAST_REQUEST,
    LoadBalancing.RANDOM: cluster.ClusterLbPolicy.RANDOM,
}


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
    built = {
        version_cluster(service.name, version.name): _version(
            service.name, version.name, service.upstream, version.dns, settings.health_events
        )
        for service in policy.services.values()
        for version in service.versions
    }
    ours = [
        *fallbacks.clusters(policy),
        _grpc(EXT_AUTHZ_CLUSTER, settings.ext_authz, settings.deciding_tls),
        _grpc(EXT_PROC_CLUSTER, settings.ext_proc, settings.deciding_tls),
        tracing_cluster(policy.tracing),
    ]
    return built | {item.name: bytes(item) for item in ours if item is not None}


@functools.lru_cache(maxsize=16_384)
def _version(service: str, version: str, given: Upstream, dns: Dns | None, health_events: str | None) -> bytes:
    """Serialised. Built once: a change elsewhere in the policy builds it not again."""
    name = version_cluster(service, version)
    http2 = given.http_protocol is HttpProtocol.HTTP2
    built = cluster.Cluster(
        name=name,
        connect_timeout=datetime.timedelta(milliseconds=given.connect_timeout_ms),
        lb_policy=_LOAD_BALANCING[given.load_balancing],
        health_checks=[] if given.health_check is None else [health_check(given.health_check, health_events)],
        typed_extension_protocol_options={_HTTP_OPTIONS: Any.pack(_HTTP2 if http2 else _HTTP1)},
    )
    if dns is None:
        built.type = cluster.ClusterDiscoveryType.EDS
        built.eds_cluster_config = cluster.ClusterEdsClusterConfig(eds_config=over_ads())
    else:
        resolved = dns_cluster.DnsCluster(
            respect_dns_ttl=True,
            # A host with addresses of both families is one host; where one stands for all, Envoy tries both.
            dns_lookup_family=DnsLookupFamily.V4_PREFERRED if dns.every_address else DnsLookupFamily.ALL,
            all_addresses_in_single_endpoint=not dns.every_address,
        )
        built.cluster_type = cluster.ClusterCustomClusterType(
            name="envoy.clusters.dns", typed_config=Any.pack(resolved)
        )
        built.load_assignment = static_endpoints(name, [(dns.hostname, dns.port)])
    if given.circuit_breakers is not None:
        limits = given.circuit_breakers
        built.circuit_breakers = _breakers(limits.max_connections, limits.max_pending_requests, limits.max_requests)
    if given.outlier_detection is not None:
        built.outlier_detection = outlier_detection(given.outlier_detection)
    if given.outlier_detection is not None or given.health_check is not None:
        # Envoy's own 50 would send payments to hosts that are known to be down (decision 0014).
        built.common_lb_config = cluster.ClusterCommonLbConfig(
            healthy_panic_threshold=envoy_type.Percent(value=float(given.panic_threshold))
        )
    if given.tls is not None:
        built.transport_socket = upstream_tls(f"service/{service}", given.tls, http2)
    return bytes(built)


def _breakers(connections: int, pending: int, requests: int) -> cluster.CircuitBreakers:
    threshold = cluster.CircuitBreakersThresholds(
        max_connections=connections, max_pending_requests=pending, max_requests=requests
    )
    return cluster.CircuitBreakers(thresholds=[threshold])


def _grpc(name: str, workers: Sequence[tuple[str, int]], tls: UpstreamTls | None) -> cluster.Cluster:
    keepalive = core.KeepaliveSettings(interval=datetime.timedelta(seconds=30), timeout=datetime.timedelta(seconds=5))
    http2 = upstream.HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=core.Http2ProtocolOptions(connection_keepalive=keepalive)
    )
    return cluster.Cluster(
        name=name,
        type=cluster.ClusterDiscoveryType.STATIC,
        connect_timeout=datetime.timedelta(milliseconds=500),
        load_assignment=static_endpoints(name, workers),
        health_checks=[_SERVING] if len(workers) > 1 else [],
        circuit_breakers=_breakers(_NO_LIMIT, _NO_LIMIT, _NO_LIMIT),
        transport_socket=None if tls is None else upstream_tls(DECIDING, tls, http2=True),
        typed_extension_protocol_options={
            _HTTP_OPTIONS: Any.pack(upstream.HttpProtocolOptions(explicit_http_config=http2))
        },
    )
