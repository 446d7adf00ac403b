"""Owns the two ext_proc filters: sanitising requests and observing responses.

Two, because they must fail in opposite ways and `failure_mode_allow` is a filter's: unsanitised data must not pass,
but an answer that a payment already has must never turn into a refusal because nobody could watch it (DESIGN 5.6).
"""

from __future__ import annotations

import datetime

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any

from control_plane.resources.names import EXT_PROC_CLUSTER
from paymesh.payments.internal_names import AUTHZ_FILTER, OBSERVE_FILTER, OUTCOME_NAMESPACE, SANITIZE_FILTER
from paymesh.payments.policy.compiled import Route

SANITIZE_TIMEOUT = datetime.timedelta(milliseconds=500)
OBSERVE_TIMEOUT = datetime.timedelta(milliseconds=200)
"""The longest that watching may hold up an answer when ext_proc hangs."""

# No timeout here: it would bound the whole stream, and with it a response that arrives slowly.
_SERVICE = core.GrpcService(envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=EXT_PROC_CLUSTER))
_HEADERS = ext_proc.ProcessingModeHeaderSendMode
_BODY = ext_proc.ProcessingModeBodySendMode
_DECISION = ext_proc.MetadataOptionsMetadataNamespaces(untyped=[AUTHZ_FILTER])
_SANITIZE_MODE = ext_proc.ProcessingMode(
    # SKIP sends the headers on before the body is answered: right where only the body changes, and cheapest.
    request_header_mode=_HEADERS.SKIP,
    request_body_mode=_BODY.BUFFERED,
    response_header_mode=_HEADERS.SKIP,
    response_body_mode=_BODY.NONE,
    request_trailer_mode=_HEADERS.SKIP,
    response_trailer_mode=_HEADERS.SKIP,
)
_OBSERVE_MODE = ext_proc.ProcessingMode(
    request_header_mode=_HEADERS.SKIP,
    request_body_mode=_BODY.NONE,
    # SEND with body NONE; ext_proc asks for the body by mode_override when it is known to fit.
    response_header_mode=_HEADERS.SEND,
    response_body_mode=_BODY.NONE,
    request_trailer_mode=_HEADERS.SKIP,
    response_trailer_mode=_HEADERS.SKIP,
)


def http_filters() -> list[hcm.HttpFilter]:
    """Both, off by default: a route that needs neither pays for neither."""
    sanitize = ext_proc.ExternalProcessor(
        grpc_service=_SERVICE,
        failure_mode_allow=False,
        status_on_error=envoy_type.HttpStatus(code=envoy_type.StatusCode.ServiceUnavailable),
        processing_mode=_SANITIZE_MODE,
        message_timeout=SANITIZE_TIMEOUT,
        metadata_options=ext_proc.MetadataOptions(forwarding_namespaces=_DECISION),
    )
    observe = ext_proc.ExternalProcessor(
        grpc_service=_SERVICE,
        failure_mode_allow=True,
        processing_mode=_OBSERVE_MODE,
        allow_mode_override=True,
        message_timeout=OBSERVE_TIMEOUT,
        response_attributes=["response.code"],
        # It watches: it may not answer in the service's place.
        disable_immediate_response=True,
        metadata_options=ext_proc.MetadataOptions(
            forwarding_namespaces=_DECISION,
            receiving_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(untyped=[OUTCOME_NAMESPACE]),
        ),
    )
    return [
        hcm.HttpFilter(name=SANITIZE_FILTER, typed_config=Any.pack(sanitize), disabled=True),
        hcm.HttpFilter(name=OBSERVE_FILTER, typed_config=Any.pack(observe), disabled=True),
    ]


def per_route(route: Route) -> dict[str, Any]:
    """Switches on what the route needs."""
    config: dict[str, Any] = {}
    if route.sanitize_request:
        config[SANITIZE_FILTER] = _on(_SANITIZE_MODE)
    if route.observe_response:
        config[OBSERVE_FILTER] = _on(_OBSERVE_MODE)
    return config


def _on(mode: ext_proc.ProcessingMode) -> Any:
    return Any.pack(ext_proc.ExtProcPerRoute(overrides=ext_proc.ExtProcOverrides(processing_mode=mode)))
