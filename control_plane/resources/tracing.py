"""Owns Envoy's spans: where they go, and what they say. Refuses to let them hold anything that a client wrote freely.

Envoy tags every span with URL, user agent and, of what looks like gRPC, path and host. That cannot be switched off, but
a custom tag of the same name comes later and takes its place.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.trace import v3 as trace
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.envoy.type.metadata import v3 as metadata
from envoy_data_plane.envoy.type.tracing import v3 as tags
from envoy_data_plane.google.protobuf import Any

from control_plane.resources.addresses import static_endpoints
from control_plane.resources.names import TRACING_CLUSTER
from paymesh.payments import internal_names as names
from paymesh.payments.policy.compiled import TOTAL_WEIGHT, Tracing, TracingProtocol

_FREE_TEXT = ("tracestate", "x-client-trace-id")
"""What stands in these headers of a client would be exported as it is."""
_CONTEXT = (
    "traceparent",
    "b3",
    *(f"x-b3-{name}" for name in ("traceid", "spanid", "parentspanid", "sampled", "flags")),
)
"""By these a client would choose what is traced, and under which ids."""

SERVICE_NAME = "paymesh"
_ZIPKIN_PATH = "/api/v2/spans"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_REQUEST = metadata.MetadataKind(request=metadata.MetadataKindRequest())

FROM_METADATA = {
    "merchant": (names.AUTHZ_FILTER, names.META_MERCHANT),
    "decision": (names.AUTHZ_FILTER, names.META_DECISION),
    "reason": (names.AUTHZ_FILTER, names.META_REASON),
    "channel": (names.AUTHZ_FILTER, names.META_CHANNEL),
    "outcome": (names.OUTCOME_NAMESPACE, names.META_OUTCOME),
}
"""Named as in the access log."""

FROM_STREAM = {
    "route": "%ROUTE_NAME%",
    # Over HTTP/2 a method is any text that a client chose: no more of it than the longest that there is.
    "http.method": "%REQ(:METHOD):7%",
}
HIDDEN = ("http.url", "user_agent", "grpc.path", "grpc.authority")
"""Tags of Envoy's own that hold what a client wrote."""


def removed_headers(policy: Tracing | None) -> Sequence[str]:
    """Headers of the client's request that go before anything reads them."""
    if policy is None:
        return ()
    return _FREE_TEXT if policy.continue_traces else (*_FREE_TEXT, *_CONTEXT)


def tracing(policy: Tracing | None) -> hcm.HttpConnectionManagerTracing | None:
    """Of the connection manager; None: no spans."""
    if policy is None:
        return None
    return hcm.HttpConnectionManagerTracing(
        provider=_provider(policy),
        random_sampling=envoy_type.Percent(value=policy.sampling * 100 / TOTAL_WEIGHT),
        # A client cannot ask for spans: with the header x-client-trace-id it could.
        client_sampling=envoy_type.Percent(value=0.0),
        overall_sampling=envoy_type.Percent(value=100.0),
        max_path_tag_length=0,
        spawn_upstream_span=True,
        operation="%ROUTE_NAME%",
        upstream_operation="%UPSTREAM_CLUSTER_RAW%",
        custom_tags=_custom_tags(),
    )


def tracing_cluster(policy: Tracing | None) -> cluster.Cluster | None:
    """Of the collector: HTTP/2 for OTLP, HTTP/1 for Zipkin."""
    if policy is None:
        return None
    options = upstream.HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=core.Http2ProtocolOptions())
    if policy.protocol is TracingProtocol.ZIPKIN:
        options = upstream.HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=core.Http1ProtocolOptions())
    return cluster.Cluster(
        name=TRACING_CLUSTER,
        type=_discovery(policy.address),
        connect_timeout=datetime.timedelta(seconds=1),
        load_assignment=static_endpoints(TRACING_CLUSTER, [(policy.address, policy.port)]),
        typed_extension_protocol_options={
            _HTTP_OPTIONS: Any.pack(upstream.HttpProtocolOptions(explicit_http_config=options))
        },
    )


def _discovery(address: str) -> cluster.ClusterDiscoveryType:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return cluster.ClusterDiscoveryType.STRICT_DNS
    return cluster.ClusterDiscoveryType.STATIC


def _provider(policy: Tracing) -> trace.TracingHttp:
    if policy.protocol is TracingProtocol.OPENTELEMETRY:
        collector = core.GrpcService(
            envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=TRACING_CLUSTER),
            timeout=datetime.timedelta(milliseconds=500),
        )
        opentelemetry = trace.OpenTelemetryConfig(grpc_service=collector, service_name=SERVICE_NAME)
        return trace.TracingHttp(name="envoy.tracers.opentelemetry", typed_config=Any.pack(opentelemetry))
    zipkin = trace.ZipkinConfig(
        collector_cluster=TRACING_CLUSTER,
        collector_endpoint=_ZIPKIN_PATH,
        collector_endpoint_version=trace.ZipkinConfigCollectorEndpointVersion.HTTP_JSON,
        collector_hostname=policy.address,
        trace_id_128bit=True,
        trace_context_option=trace.ZipkinConfigTraceContextOption.USE_B3_WITH_W3C_PROPAGATION,
    )
    return trace.TracingHttp(name="envoy.tracers.zipkin", typed_config=Any.pack(zipkin))


def _custom_tags() -> list[tags.CustomTag]:
    read = [
        tags.CustomTag(
            tag=tag,
            metadata=tags.CustomTagMetadata(
                kind=_REQUEST,
                metadata_key=metadata.MetadataKey(key=namespace, path=[metadata.MetadataKeyPathSegment(key=key)]),
            ),
        )
        for tag, (namespace, key) in FROM_METADATA.items()
    ]
    formatted = [tags.CustomTag(tag=tag, value=text) for tag, text in FROM_STREAM.items()]
    hidden = [tags.CustomTag(tag=tag, literal=tags.CustomTagLiteral(value="-")) for tag in HIDDEN]
    return [*read, *formatted, *hidden]
