"""Owns Envoy's access logs: one JSON line a request, without queries, bodies or credentials; and to ext_authz, by gRPC,
the end of every request that began an order, holds a slot or is timed; and to the control plane, by gRPC, what releases
are judged by."""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.file import v3 as file_log
from envoy_data_plane.envoy.extensions.access_loggers.grpc import v3 as grpc_log
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.envoy.type.tracing import v3 as tags
from envoy_data_plane.google.protobuf import Any, Struct

from control_plane.resources.names import EXT_AUTHZ_CLUSTER, XDS_CLUSTER
from paymesh.payments import internal_names as names
from paymesh.payments.policy.compiled import Policy


def _decision(key: str) -> str:
    return f"%DYNAMIC_METADATA({names.AUTHZ_FILTER}:{key})%"


FIELDS = {
    "ts": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "event": "access",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "method": "%REQ(:METHOD):7%",
    "route": "%ROUTE_NAME%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "decision": _decision(names.META_DECISION),
    "reason": _decision(names.META_REASON),
    "merchant": _decision(names.META_MERCHANT),
    "channel": _decision(names.META_CHANNEL),
    "outcome": f"%DYNAMIC_METADATA({names.OUTCOME_NAMESPACE}:{names.META_OUTCOME})%",
}
"""The route's name stands for the path: a path may hold an order number, and its query personal data."""


_TOLD_OF = (names.META_ORDER_KEYS, names.META_SETTLES_ORDER, names.META_RECORDED, names.META_HELD, names.META_TIMED)
"""Keys of ext_authz's metadata that something waits for the end of."""


def ends_log(*, undecided: bool) -> accesslog.AccessLog:
    """Tells ext_authz at once when a request is over that it waits for: until then repeats of an attempt are refused
    with 409, and slots are held.

    `undecided`: also of every request that has no decision. Its client may have gone during the check, and the check
    may have taken slots. Those that no check saw (404, 413) are among them: Envoy's log cannot tell them apart.
    """
    config = grpc_log.HttpGrpcAccessLogConfig(
        common_config=grpc_log.CommonGrpcAccessLogConfig(
            log_name="paymesh.ends",
            grpc_service=core.GrpcService(envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=EXT_AUTHZ_CLUSTER)),
            transport_api_version=core.ApiVersion.V3,
            # An entry waits up to a second for others otherwise.
            buffer_size_bytes=0,
        )
    )
    told = [_decided(key) for key in _TOLD_OF]
    if undecided:
        told.append(_undecided())
    return accesslog.AccessLog(
        name="envoy.access_loggers.http_grpc",
        filter=accesslog.AccessLogFilter(or_filter=accesslog.OrFilter(filters=told)),
        typed_config=Any.pack(config),
    )


def versions_log(policy: Policy) -> list[accesslog.AccessLog]:
    """Tells the control plane, within a second, of every end that releases are judged by. No log where no service has
    several versions, as at a sidecar."""
    if all(len(service.versions) < 2 for service in policy.services.values()):
        return []
    config = grpc_log.HttpGrpcAccessLogConfig(
        common_config=grpc_log.CommonGrpcAccessLogConfig(
            log_name="paymesh.versions",
            grpc_service=core.GrpcService(envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=XDS_CLUSTER)),
            transport_api_version=core.ApiVersion.V3,
            # Where no host was found the entry's own field is empty (seen with 1.40).
            custom_tags=[tags.CustomTag(tag=names.CLUSTER_TAG, value="%UPSTREAM_CLUSTER_RAW%")],
        )
    )
    return [
        accesslog.AccessLog(
            name="envoy.access_loggers.http_grpc",
            filter=_decided(names.META_MOVABLE),
            typed_config=Any.pack(config),
        )
    ]


def _decided(key: str) -> accesslog.AccessLogFilter:
    """Whether ext_authz's metadata has this key."""
    return _metadata(key, matcher.ValueMatcher(present_match=True), otherwise=False)


def _undecided() -> accesslog.AccessLogFilter:
    """Whether ext_authz's metadata has no decision."""
    # Envoy passes over `invert` here (seen with 1.40): null is matched, which no decision is, and what is not there.
    return _metadata(
        names.META_DECISION, matcher.ValueMatcher(null_match=matcher.ValueMatcherNullMatch()), otherwise=True
    )


def _metadata(key: str, value: matcher.ValueMatcher, *, otherwise: bool) -> accesslog.AccessLogFilter:
    """Whether ext_authz's metadata has this value there; `otherwise` if it has no such key."""
    condition = accesslog.MetadataFilter(
        matcher=matcher.MetadataMatcher(
            filter=names.AUTHZ_FILTER, path=[matcher.MetadataMatcherPathSegment(key=key)], value=value
        ),
        match_if_key_not_found=otherwise,
    )
    return accesslog.AccessLogFilter(metadata_filter=condition)


def access_log(path: str) -> accesslog.AccessLog:
    text = core.SubstitutionFormatString(json_format=Struct.from_dict(FIELDS), omit_empty_values=False)
    return accesslog.AccessLog(
        name="envoy.access_loggers.file",
        typed_config=Any.pack(file_log.FileAccessLog(path=path, log_format=text)),
    )
