"""What Envoy is told about spans: what they hold, and what they never hold. How they look is in tests/data_plane."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream

from control_plane.resources.access_log import FIELDS
from control_plane.resources.tracing import removed_headers, tracing, tracing_cluster
from paymesh.payments.policy.compiled import Tracing, TracingProtocol
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors

TESTDATA = Path(__file__).parents[2] / "golden" / "testdata"
BOTH = [Tracing(protocol, "127.0.0.1", 4317, 25) for protocol in TracingProtocol]


def config(policy: Tracing) -> hcm.HttpConnectionManagerTracing:
    made = tracing(policy)
    assert made is not None
    return made


@pytest.mark.parametrize("policy", BOTH, ids=lambda policy: policy.protocol.value)
def test_spans_hold_no_path_and_no_header(policy: Tracing) -> None:
    made = config(policy)
    assert made.max_path_tag_length == 0
    assert not made.verbose
    assert not [tag.tag for tag in made.custom_tags if tag.request_header is not None or tag.environment is not None]
    formats = [tag.value for tag in made.custom_tags if tag.value] + [made.operation, made.upstream_operation]
    assert set(formats) == {"%ROUTE_NAME%", "%REQ(:METHOD):7%", "%UPSTREAM_CLUSTER_RAW%"}


@pytest.mark.parametrize("policy", BOTH, ids=lambda policy: policy.protocol.value)
def test_tags_of_envoys_own_that_a_client_writes_are_replaced(policy: Tracing) -> None:
    literals = {tag.tag: tag.literal.value for tag in config(policy).custom_tags if tag.literal is not None}
    assert literals == dict.fromkeys(("http.url", "user_agent", "grpc.path", "grpc.authority"), "-")


def test_tags_are_named_as_in_the_access_log() -> None:
    tags = {tag.tag: tag.metadata for tag in config(BOTH[0]).custom_tags if tag.metadata is not None}
    assert set(tags) == {"merchant", "decision", "reason", "channel", "outcome"}
    for name, found in tags.items():
        key = found.metadata_key
        assert key is not None
        assert FIELDS[name] == f"%DYNAMIC_METADATA({key.key}:{key.path[0].key})%"


def test_only_the_policy_says_what_is_traced() -> None:
    made = config(BOTH[0])
    rates = [made.random_sampling, made.client_sampling, made.overall_sampling]
    assert [None if rate is None else rate.value for rate in rates] == [0.25, 0.0, 100.0]
    assert {"x-client-trace-id", "tracestate", "traceparent", "b3", "x-b3-sampled"} <= set(removed_headers(BOTH[0]))


def test_known_clients_traces_may_go_on() -> None:
    assert removed_headers(replace(BOTH[0], continue_traces=True)) == ("tracestate", "x-client-trace-id")
    assert removed_headers(None) == ()


def test_zipkin_is_refused_where_it_would_crash_envoy(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("observability: {tracing: {zipkin: {address: 127.0.0.1, port: 9411}}}\n")
    with pytest.raises(PolicyErrors, match=r"Envoy 1\.40 crashes"):
        load_policy([TESTDATA / "demo.yaml", file], {"GOLDEN_SECRET": "0123456789abcdef0123456789abcdef"})
    assert load_policy([file], {}).tracing is not None


@pytest.mark.parametrize(
    ("protocol", "address", "http2", "kind"),
    [
        (TracingProtocol.OPENTELEMETRY, "127.0.0.1", True, cluster.ClusterDiscoveryType.STATIC),
        (TracingProtocol.OPENTELEMETRY, "::1", True, cluster.ClusterDiscoveryType.STATIC),
        (TracingProtocol.ZIPKIN, "zipkin.tracing.svc", False, cluster.ClusterDiscoveryType.STRICT_DNS),
    ],
)
def test_the_collector_speaks_its_protocol(
    protocol: TracingProtocol, address: str, http2: bool, kind: cluster.ClusterDiscoveryType
) -> None:
    made = tracing_cluster(Tracing(protocol, address, 9411, 100))
    assert made is not None
    assert made.type == kind
    (options,) = made.typed_extension_protocol_options.values()
    explicit = upstream.HttpProtocolOptions.parse(options.value).explicit_http_config
    assert explicit is not None
    assert (explicit.http2_protocol_options is not None) is http2


def test_without_the_key_there_are_no_spans(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("routes: []\n")
    policy = load_policy([file], {})
    assert policy.tracing is None
    assert tracing(policy.tracing) is None
    assert tracing_cluster(policy.tracing) is None


def test_the_default_is_one_percent(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("observability: {tracing: {opentelemetry: {address: otel.svc, port: 4317}}}\n")
    assert load_policy([file], {}).tracing == Tracing(TracingProtocol.OPENTELEMETRY, "otel.svc", 4317, 100)
