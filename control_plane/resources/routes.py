"""Owns the route configuration: the policy's routes in their order, channels, weighted versions, and closed ends."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route_v3
from envoy_data_plane.google.protobuf import Any

from control_plane.resources import ext_authz_filter, ext_proc_filters
from control_plane.resources.matching import envoy_match, exact_header
from control_plane.resources.names import ROUTE_CONFIGURATION, version_cluster
from paymesh.payments.internal_names import CHANNEL_HEADER, REQUEST_ID_HEADER, SPLIT_HEADER
from paymesh.payments.policy.compiled import Channel, Policy, Route

Weights = Mapping[str, Mapping[str, int]]
"""Service -> version -> weight; each service's weights add up to TOTAL_WEIGHT."""

NO_ROUTE = "no-route"


def build_routes(policy: Policy, weights: Weights) -> dict[str, bytes]:
    """The one route configuration, serialised."""
    routes = [item for route in policy.routes for item in _expand(route, weights)]
    routes.append(_nowhere())
    host = route_v3.VirtualHost(name="paymesh", domains=["*"], routes=routes)
    configuration = route_v3.RouteConfiguration(
        name=ROUTE_CONFIGURATION,
        virtual_hosts=[host],
        response_headers_to_add=[
            core.HeaderValueOption(
                header=core.HeaderValue(key=REQUEST_ID_HEADER, value="%REQ(X-REQUEST-ID)%"),
                append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        ],
    )
    return {ROUTE_CONFIGURATION: bytes(configuration)}


def _expand(route: Route, weights: Weights) -> list[route_v3.Route]:
    """A pay route becomes one route a channel, and last a direct 503: what has no channel reaches no service."""
    filters = {**ext_authz_filter.per_route(route), **ext_proc_filters.per_route(route)}
    if not route.is_pay:
        assert route.service is not None  # refused at load
        return [_forward(route, route.name, route.service, None, weights, filters)]
    chosen = [
        _forward(route, f"{route.name}/{channel.name}", channel.service, channel, weights, filters)
        for channel in route.channels
    ]
    last = route_v3.Route(
        name=route.name,
        match=envoy_match(route.match),
        direct_response=route_v3.DirectResponseAction(status=503),
        typed_per_filter_config=filters,
    )
    return [*chosen, last]


def _forward(
    route: Route, name: str, service: str, channel: Channel | None, weights: Weights, filters: dict[str, Any]
) -> route_v3.Route:
    picked = None if channel is None else exact_header(CHANNEL_HEADER, channel.name)
    action = route_v3.RouteAction(
        weighted_clusters=_split(service, weights[service]),
        # Sticky: the same merchant hashes to the same version as long as the order of the clusters stays.
        hash_policy=[
            route_v3.RouteActionHashPolicy(header=route_v3.RouteActionHashPolicyHeader(header_name=SPLIT_HEADER))
        ],
        timeout=datetime.timedelta(milliseconds=route.timeout_ms),
        # No retry_policy, here or above: a payment is never sent twice.
    )
    return route_v3.Route(
        name=name, match=envoy_match(route.match, channel=picked), route=action, typed_per_filter_config=filters
    )


def _split(service: str, weights: Mapping[str, int]) -> route_v3.WeightedCluster:
    clusters = [
        route_v3.WeightedClusterClusterWeight(name=version_cluster(service, version), weight=weight)
        for version, weight in weights.items()
    ]
    return route_v3.WeightedCluster(clusters=clusters, use_hash_policy=True)


def _nowhere() -> route_v3.Route:
    return route_v3.Route(
        name=NO_ROUTE,
        match=route_v3.RouteMatch(prefix="/"),
        direct_response=route_v3.DirectResponseAction(status=404),
        typed_per_filter_config=ext_authz_filter.disabled(),
    )
