"""Owns the gateway's listener: what happens before the filters, their order, and what a client may cost."""

from __future__ import annotations

import datetime

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google.protobuf import Any

from control_plane.resources import adaptive_concurrency, ext_authz_filter, ext_proc_filters, faults, local_rate_limit
from control_plane.resources.access_log import access_log, ends_log, versions_log
from control_plane.resources.addresses import over_ads, socket_address
from control_plane.resources.early_headers import early_header_mutation
from control_plane.resources.local_replies import local_replies
from control_plane.resources.names import LISTENER, ROUTE_CONFIGURATION
from control_plane.resources.secrets import downstream_tls
from control_plane.resources.tracing import removed_headers, tracing
from control_plane.settings import GatewaySettings
from paymesh.payments.policy.compiled import Policy

_MIN_BUFFER_BYTES = 1024 * 1024
_HEADROOM_BYTES = 64 * 1024


def build_listener(policy: Policy, settings: GatewaySettings) -> dict[str, bytes]:
    """The one listener, serialised."""
    manager = Any.pack(_manager(policy, settings))
    largest = max((route.max_body_bytes for route in policy.routes), default=0)
    built = listener.Listener(
        name=LISTENER,
        address=socket_address(settings.gateway),
        filter_chains=[
            listener.FilterChain(
                filters=[listener.Filter(name="envoy.filters.network.http_connection_manager", typed_config=manager)],
                transport_socket=None if settings.tls is None else downstream_tls(settings.tls),
            )
        ],
        per_connection_buffer_limit_bytes=max(_MIN_BUFFER_BYTES, largest + _HEADROOM_BYTES),
    )
    return {LISTENER: bytes(built)}


def _manager(policy: Policy, settings: GatewaySettings) -> hcm.HttpConnectionManager:
    longest_ms = max((route.timeout_ms for route in policy.routes), default=0)
    return hcm.HttpConnectionManager(
        stat_prefix="paymesh",
        codec_type=hcm.HttpConnectionManagerCodecType.AUTO,
        rds=hcm.Rds(config_source=over_ads(), route_config_name=ROUTE_CONFIGURATION),
        early_header_mutation_extensions=[early_header_mutation(removed_headers(policy.tracing))],
        forward_client_cert_details=hcm.HttpConnectionManagerForwardClientCertDetails.SANITIZE,
        use_remote_address=True,
        generate_request_id=True,
        # One reading of a path, by Envoy, before anything decides on it.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=hcm.HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST,
        common_http_protocol_options=core.HttpProtocolOptions(
            # x_pay_merchant would reach services that read underscores as dashes.
            headers_with_underscores_action=core.HttpProtocolOptionsHeadersWithUnderscoresAction.REJECT_REQUEST,
            idle_timeout=datetime.timedelta(seconds=300),
        ),
        # A slow client may not hold a connection for ever; a slow service is the route's timeout.
        request_headers_timeout=datetime.timedelta(seconds=10),
        request_timeout=datetime.timedelta(seconds=30),
        stream_idle_timeout=datetime.timedelta(milliseconds=longest_ms + 30_000),
        server_name="paymesh",
        access_log=[
            access_log(settings.access_log),
            ends_log(undecided=policy.holds_slots or policy.moves_money),
            *versions_log(policy),
        ],
        tracing=tracing(policy.tracing),
        local_reply_config=local_replies(policy),
        http_filters=[
            local_rate_limit.http_filter(),  # first: a flood must cost no check
            ext_authz_filter.http_filter(policy),  # decides, before anything is changed or sent
            *faults.http_filters(policy),  # hits what was let in, before anything else is done with it
            *ext_proc_filters.http_filters(policy),  # transforms and observes what was allowed
            *adaptive_concurrency.http_filters(policy),  # last: it measures the services, not the checks
            hcm.HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(router.Router())),
        ],
    )
