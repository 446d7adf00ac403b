"""Owns the three ext_proc filters: sanitising requests, changing answers (both ways of an exchange), and observing.

Three, because they fail in three ways, and how it fails is a filter's: a request that cannot be sanitised was not
processed (503); where answers are changed, one that cannot be must not pass, and its payment may well be made (500,
which `local_replies` words as "unknown"); and an answer that is only watched always passes (DESIGN 5.6). Where answers
are changed that filter does all: one stream sanitises the request, changes the answer and tells the outcome.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable

from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation_rules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any

from control_plane.resources.names import EXT_PROC_CLUSTER
from paymesh.payments.internal_names import (
    ANSWER_FILTER,
    AUTHZ_FILTER,
    OBSERVE_FILTER,
    OUTCOME_NAMESPACE,
    SANITIZE_FILTER,
)
from paymesh.payments.policy.compiled import Channel, Policy, Route

SANITIZE_TIMEOUT = datetime.timedelta(milliseconds=500)
SANITIZE_TIMEOUT_PER_MIB = datetime.timedelta(seconds=10)
MAX_SANITIZE_TIMEOUT = datetime.timedelta(seconds=30)
"""A megabyte takes ext_proc 20 ms, and bodies come at once: 200 of them must not be refused because they queue."""
OBSERVE_TIMEOUT = datetime.timedelta(seconds=1)
"""The longest that watching may hold up an answer when ext_proc hangs: it waits for the event log's commit."""

ANSWER_GRACE = datetime.timedelta(seconds=10)
"""Beyond the route's timeout, by which an answer is there whole: how long changing it may take."""

# A timeout of this service would be without effect (seen): streams are bounded by the filter's and the route's own.
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
_ANSWER_MODE = ext_proc.ProcessingMode(
    request_header_mode=_HEADERS.SKIP,
    request_body_mode=_BODY.NONE,  # or as above, by route
    # Chunks are shown as they come, and nothing goes on before ext_proc has answered: an answer may have any length,
    # known or not. BUFFERED would make a 500 of one that is longer than a buffer. This mode demands the trailers.
    response_header_mode=_HEADERS.SEND,
    response_body_mode=_BODY.FULL_DUPLEX_STREAMED,
    request_trailer_mode=_HEADERS.SKIP,
    response_trailer_mode=_HEADERS.SEND,
)
_CONVERT_MODE = dataclasses.replace(
    _ANSWER_MODE,
    # Method, path and headers become the provider's own, so nothing may have gone on before the body was read.
    request_header_mode=_HEADERS.SEND,
    request_body_mode=_BODY.BUFFERED,
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


_TOLD = ext_proc.MetadataOptions(
    forwarding_namespaces=_DECISION,
    receiving_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(untyped=[OUTCOME_NAMESPACE]),
)


def http_filters(policy: Policy) -> list[hcm.HttpFilter]:
    """All, off by default: a route that needs none pays for none."""
    largest = max((route.max_body_bytes for route in policy.routes if _shows_body(route)), default=0)
    timeout = min(SANITIZE_TIMEOUT + SANITIZE_TIMEOUT_PER_MIB * (largest / (1 << 20)), MAX_SANITIZE_TIMEOUT)
    sanitize = ext_proc.ExternalProcessor(
        grpc_service=_SERVICE,
        failure_mode_allow=False,
        status_on_error=envoy_type.HttpStatus(code=envoy_type.StatusCode.ServiceUnavailable),
        processing_mode=_SANITIZE_MODE,
        message_timeout=timeout,
        metadata_options=_TOLD,
    )
    answer = ext_proc.ExternalProcessor(
        grpc_service=_SERVICE,
        failure_mode_allow=False,
        # Not 503, which says that nothing was processed: the upstream has answered already.
        status_on_error=envoy_type.HttpStatus(code=envoy_type.StatusCode.InternalServerError),
        processing_mode=_ANSWER_MODE,
        message_timeout=timeout,  # of a request's body
        metadata_options=_TOLD,
        request_attributes=["source.address"],
        # Whether a service answered or Envoy in its place: what no provider said is not read as its word.
        response_attributes=["response.code_details"],
        # A generic order becomes a provider's request: its method and host are others.
        mutation_rules=mutation_rules.HeaderMutationRules(allow_all_routing=True),
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
        metadata_options=_TOLD,
    )
    return [
        hcm.HttpFilter(name=SANITIZE_FILTER, typed_config=Any.pack(sanitize), disabled=True),
        hcm.HttpFilter(name=ANSWER_FILTER, typed_config=Any.pack(answer), disabled=True),
        hcm.HttpFilter(name=OBSERVE_FILTER, typed_config=Any.pack(observe), disabled=True),
    ]


def _shows_body(route: Route) -> bool:
    found = route.variants or (route,)
    return any(one.sanitize_request or any(channel.adapted for channel in one.channels) for one in found)


def per_route(route: Route, channel: Channel | None = None) -> dict[str, Any]:
    """Switches on what the route needs, for requests that go to this channel."""
    config: dict[str, Any] = {}
    if channel is not None and channel.adapted:
        return {ANSWER_FILTER: _on(_CONVERT_MODE)}
    if changes_answer(route):
        body = _BODY.BUFFERED if route.sanitize_request else _BODY.NONE
        return {ANSWER_FILTER: _on(dataclasses.replace(_ANSWER_MODE, request_body_mode=body))}
    if route.sanitize_request:
        config[SANITIZE_FILTER] = _on(_SANITIZE_MODE)
    if route.observe_response:
        config[OBSERVE_FILTER] = _on(_OBSERVE_MODE)
    return config


def needed(route: Route) -> set[str]:
    """Names of the filters that the route, or one of its variants, needs."""
    return {
        name
        for one in route.variants or (route,)
        for channel in (one.channels if one.by_channel else (None,))
        for name in per_route(one, channel)
    }


def idle(filters: Iterable[str]) -> dict[str, Any]:
    """In the chain and doing nothing: a route found later may want them, and Envoy makes the chain only once."""
    return {name: Any.pack(ext_proc.ExtProcPerRoute(disabled=True)) for name in sorted(filters)}


def changes_answer(route: Route, channel: Channel | None = None) -> bool:
    """Whether answers of this route are read whole, and sent on as ext_proc makes them."""
    return bool(route.sanitize_response) or route.sign_again or (channel is not None and channel.adapted)


def reads_answer(route: Route, channel: Channel | None = None) -> bool:
    """Whether anybody here looks into the route's answers."""
    return changes_answer(route, channel) or route.observe_response


def idle_timeout(route: Route, channel: Channel | None = None) -> datetime.timedelta | None:
    """The longest silence on a stream of the route, if it needs a limit of its own.

    No message timeout runs while an answer is streamed to ext_proc: one that hangs would hold the answer up for ever.
    Whoever waits for a silent service is bounded by the route's timeout before.
    """
    wanted = changes_answer(route, channel)
    return datetime.timedelta(milliseconds=route.timeout_ms) + ANSWER_GRACE if wanted else None


def _on(mode: ext_proc.ProcessingMode) -> Any:
    return Any.pack(ext_proc.ExtProcPerRoute(overrides=ext_proc.ExtProcOverrides(processing_mode=mode)))
