"""Owns the ext_authz filter: in the listener, and what each route adds to it."""

from __future__ import annotations

import datetime

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.ext_authz import v3 as ext_authz
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any

from control_plane.resources.names import EXT_AUTHZ_CLUSTER
from control_plane.resources.route_cache import Splits
from paymesh.payments.internal_names import (
    AUTHZ_FILTER,
    ORDERS_STAY_EXTENSION,
    PINNED_EXTENSION,
    ROUTE_EXTENSION,
    SALT_EXTENSION,
)
from paymesh.payments.policy.compiled import Policy, Route
from paymesh.payments.releases.pinned_merchants import encode_pinned

TIMEOUT = datetime.timedelta(milliseconds=500)
"""Envoy's default of 200 ms would refuse payments during a short pause of the process."""


def http_filter(policy: Policy) -> hcm.HttpFilter:
    """Closed: no answer is a 503 (never Envoy's default of 403, which looks like a refusal)."""
    largest = max((route.max_body_bytes for route in policy.routes), default=1)
    config = ext_authz.ExtAuthz(
        grpc_service=core.GrpcService(
            envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=EXT_AUTHZ_CLUSTER), timeout=TIMEOUT
        ),
        transport_api_version=core.ApiVersion.V3,
        with_request_body=_body(largest),
        # A repeated header that decides is refused; merged into one value it could not be told from a single one.
        encode_raw_headers=True,
        status_on_error=envoy_type.HttpStatus(code=envoy_type.StatusCode.ServiceUnavailable),
        failure_mode_allow=False,
        # The channel's header picks the route, so the route is looked up again after the decision.
        clear_route_cache=True,
        validate_mutations=True,
        include_peer_certificate=True,
    )
    return hcm.HttpFilter(name=AUTHZ_FILTER, typed_config=Any.pack(config))


def per_route(route: Route, splits: Splits) -> dict[str, Any]:
    """The route's name for ext_authz, and its largest body: a larger one is 413, and ext_authz never sees it.

    Where nothing is decided by a body none is held up: it streams to the service, as long as it is.
    """
    extensions = {ROUTE_EXTENSION: route.name, **_of_releases(route, splits)}
    if route.needs_body:
        settings = ext_authz.CheckSettings(context_extensions=extensions, with_request_body=_body(route.max_body_bytes))
    else:
        settings = ext_authz.CheckSettings(context_extensions=extensions, disable_request_body_buffering=True)
    return {AUTHZ_FILTER: Any.pack(ext_authz.ExtAuthzPerRoute(check_settings=settings))}


def _of_releases(route: Route, splits: Splits) -> dict[str, str]:
    """What the releases of the services that the route may choose want decided: whose turn it is, and by order."""
    found: dict[str, str] = {}
    for name in sorted(services_of(route)):
        rules = splits[name].rules
        if rules.salt:
            found[f"{SALT_EXTENSION}{name}"] = rules.salt
        if rules.orders_stay:
            found[f"{ORDERS_STAY_EXTENSION}{name}"] = ",".join(rules.orders_stay)
        pinned = encode_pinned(rules.pins)
        if pinned:
            found[f"{PINNED_EXTENSION}{name}"] = pinned
    return found


def services_of(route: Route) -> set[str]:
    """Those that a request of this entry route may go to."""
    found = {
        channel.service if channel is not None else one.service
        for one in (route.variants or (route,))
        for channel in (one.channels if one.by_channel else (None,))
    }
    return {name for name in found if name is not None}


def disabled() -> dict[str, Any]:
    """For paths that belong to no route: strangers cannot make ext_authz work."""
    return {AUTHZ_FILTER: Any.pack(ext_authz.ExtAuthzPerRoute(disabled=True))}


def _body(limit: int) -> ext_authz.BufferSettings:
    return ext_authz.BufferSettings(max_request_bytes=limit, pack_as_bytes=True, allow_partial_message=False)
