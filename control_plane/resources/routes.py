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
from paymesh.payments.internal_names import CHANNEL_HEADER, REQUEST_ID_HEADER, ROUTE_HEADER, SPLIT_HEADER
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
    """A pay route becomes one route a channel, an entry route one a variant, and both end with a direct 503.

    What no decision picked reaches no service. The last one is also what matches before ext_authz has decided, so it
    has every filter that one of the others needs, since Envoy adds none later. There they do nothing: a refusal passes
    no ext_proc.
    """
    decision = ext_authz_filter.per_route(route)
    if not route.variants and not route.is_pay:
        return [_forward(route, route.name, None, weights, {**decision, **ext_proc_filters.per_route(route)})]
    waiting = {**decision, **ext_proc_filters.idle(ext_proc_filters.needed(route))}
    found = route.variants or (route,)
    return [
        *(item for one in found for item in _chosen(one, weights, {**waiting, **ext_proc_filters.per_route(one)})),
        route_v3.Route(
            name=route.name,
            match=envoy_match(route.match),
            direct_response=route_v3.DirectResponseAction(status=503),
            typed_per_filter_config=waiting,
        ),
    ]


def _chosen(route: Route, weights: Weights, filters: dict[str, Any]) -> list[route_v3.Route]:
    if not route.is_pay:
        return [_forward(route, route.name, None, weights, filters)]
    return [_forward(route, f"{route.name}/{channel.name}", channel, weights, filters) for channel in route.channels]


def _forward(
    route: Route, name: str, channel: Channel | None, weights: Weights, filters: dict[str, Any]
) -> route_v3.Route:
    service = route.service if channel is None else channel.service
    assert service is not None  # refused at load
    picked = [] if channel is None else [exact_header(CHANNEL_HEADER, channel.name)]
    if route.signed_parameters:
        picked.append(exact_header(ROUTE_HEADER, route.name))
    action = route_v3.RouteAction(
        weighted_clusters=_split(service, weights[service]),
        # Sticky: the same merchant hashes to the same version as long as the order of the clusters stays.
        hash_policy=[
            route_v3.RouteActionHashPolicy(header=route_v3.RouteActionHashPolicyHeader(header_name=SPLIT_HEADER))
        ],
        timeout=datetime.timedelta(milliseconds=route.timeout_ms),
        idle_timeout=ext_proc_filters.idle_timeout(route),
        # No retry_policy, here or above: a payment is never sent twice.
    )
    return route_v3.Route(
        name=name,
        match=envoy_match(route.match, picked),
        route=action,
        # What we are to read must not come compressed.
        request_headers_to_remove=["accept-encoding"] if ext_proc_filters.reads_answer(route) else [],
        typed_per_filter_config=filters,
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
