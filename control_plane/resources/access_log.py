"""Owns Envoy's access log: one JSON line a request, without queries, bodies or credentials."""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.file import v3 as file_log
from envoy_data_plane.google.protobuf import Any, Struct

from paymesh.payments import internal_names as names


def _decision(key: str) -> str:
    return f"%DYNAMIC_METADATA({names.AUTHZ_FILTER}:{key})%"


FIELDS = {
    "ts": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "event": "access",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "method": "%REQ(:METHOD)%",
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


def access_log(path: str) -> accesslog.AccessLog:
    text = core.SubstitutionFormatString(json_format=Struct.from_dict(FIELDS), omit_empty_values=False)
    return accesslog.AccessLog(
        name="envoy.access_loggers.file",
        typed_config=Any.pack(file_log.FileAccessLog(path=path, log_format=text)),
    )
