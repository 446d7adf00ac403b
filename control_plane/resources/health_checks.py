"""Owns what Envoy asks hosts by itself, and where it writes what it learnt: `ext_authz/envoy_health.py` reads that."""

from __future__ import annotations

import datetime

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.health_check.event_sinks.file import v3 as sinks
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any

from paymesh.payments.policy.upstreams import GrpcCheck, HealthCheck, HttpCheck


def health_check(check: HealthCheck, events: str | None) -> core.HealthCheck:
    """`events`: a file on Envoy's machine that gets a line of JSON whenever a host changes; None: none."""
    found = core.HealthCheck(
        timeout=_ms(check.timeout_ms),
        interval=_ms(check.interval_ms),
        no_traffic_interval=_ms(check.no_traffic_interval_ms),
        unhealthy_threshold=check.unhealthy_threshold,
        healthy_threshold=check.healthy_threshold,
    )
    match check.check:
        case HttpCheck(path, host, statuses):
            found.http_health_check = core.HealthCheckHttpHealthCheck(
                path=path,
                host=host or "",
                expected_statuses=[envoy_type.Int64Range(start=status, end=status + 1) for status in statuses],
            )
        case GrpcCheck(name):
            found.grpc_health_check = core.HealthCheckGrpcHealthCheck(service_name=name)
        case tcp:
            found.tcp_health_check = core.HealthCheckTcpHealthCheck(
                send=_payload(tcp.send) if tcp.send else None, receive=[_payload(tcp.receive)] if tcp.receive else []
            )
    if events is not None:
        sink = sinks.HealthCheckEventFileSink(event_log_path=events)
        name = "envoy.health_check.event_sink.file"
        found.event_logger = [core.TypedExtensionConfig(name=name, typed_config=Any.pack(sink))]
    return found


def _payload(content: bytes) -> core.HealthCheckPayload:
    return core.HealthCheckPayload(text=content.hex())


def _ms(milliseconds: int) -> datetime.timedelta:
    return datetime.timedelta(milliseconds=milliseconds)
