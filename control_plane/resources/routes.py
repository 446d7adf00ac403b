"""Owns the route configuration: the policy's routes in their order, channels, weighted versions, and closed ends."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route_v3
from envoy_data_plane.google.protobuf import Any

from control_plane.resources import ext_authz_filter, ext_proc_filters, fallbacks, faults, local_rate_limit
from control_plane.resources.joined import repeated
from control_plane.resources.matching import envoy_match, exact_header
from control_plane.resources.mirroring import mirror_policies
from control_plane.resources.names import ROUTE_CONFIGURATION
from control_plane.resources.release_routes import fault_of, picked_versions, release_mirrors
from control_plane.resources.retries import retry_policy
from control_plane.resources.rewriting import headers_to_add
from control_plane.resources.route_cache import RouteCache, Splits
from paymesh.payments.internal_names import (
    CHANNEL_HEADER,
    REQUEST_ID_HEADER,
    ROUTE_HEADER,
    SPLIT_HEADER,
)
from paymesh.payments.policy.compiled import Channel, Policy, Route
from paymesh.payments.releases.traffic import Traffic

NO_ROUTE = "no-route"
_ROUTES_OF_HOST, _HOSTS = 3, 2
"""Numbers of the fields VirtualHost.routes and RouteConfiguration.virtual_hosts."""


def build_routes(policy: Policy, splits: Splits, cache: RouteCache | None = None) -> dict[str, bytes]:
    """The one route configuration, serialised. `cache`: what was built before and did not change."""
    routes = (cache or RouteCache()).build(policy.routes, splits, _serialised)
    host = route_v3.VirtualHost(name="paymesh", domains=["*"], typed_per_filter_config=local_rate_limit.for_all(policy))
    configuration = route_v3.RouteConfiguration(
        name=ROUTE_CONFIGURATION,
        response_headers_to_add=[
            core.HeaderValueOption(
                header=core.HeaderValue(key=REQUEST_ID_HEADER, value="%REQ(X-REQUEST-ID)%"),
                append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        ],
    )
    with_routes = bytes(host) + repeated(_ROUTES_OF_HOST, [*routes, bytes(_nowhere())])
    return {ROUTE_CONFIGURATION: bytes(configuration) + repeated(_HOSTS, [with_routes])}


def _serialised(route: Route, splits: Splits) -> Iterator[bytes]:
    return (bytes(item) for item in _expand(route, splits))


def _expand(route: Route, splits: Splits) -> list[route_v3.Route]:
    """A route that goes by channel becomes one a channel, an entry route one a variant, and both end with a direct 503.

    What no decision picked reaches no service. The last one is also what matches before ext_authz has decided, so it
    has every filter that one of the others needs, since Envoy adds none later. There they do nothing: a refusal passes
    no ext_proc.
    """
    decision = {**local_rate_limit.per_route(route), **ext_authz_filter.per_route(route, splits)}
    if not route.variants and not route.by_channel:
        return _forward(route, route.name, None, splits, {**decision, **ext_proc_filters.per_route(route)})
    waiting = {**decision, **ext_proc_filters.idle(ext_proc_filters.needed(route))}
    found = route.variants or (route,)
    return [
        *(item for one in found for item in _chosen(one, splits, waiting)),
        route_v3.Route(
            name=route.name,
            match=envoy_match(route.match),
            direct_response=route_v3.DirectResponseAction(status=503),
            typed_per_filter_config=waiting,
        ),
    ]


def _chosen(route: Route, splits: Splits, waiting: dict[str, Any]) -> list[route_v3.Route]:
    if not route.by_channel:
        return _forward(route, route.name, None, splits, {**waiting, **ext_proc_filters.per_route(route)})
    return [
        item
        for channel in route.channels
        for item in _forward(
            route,
            f"{route.name}/{channel.name}",
            channel,
            splits,
            {**waiting, **ext_proc_filters.per_route(route, channel)},
        )
    ]


def _forward(
    route: Route, name: str, channel: Channel | None, splits: Splits, filters: dict[str, Any]
) -> list[route_v3.Route]:
    """The weighted route, and above it those that a release sends to one version whatever the weights."""
    service = route.service if channel is None else channel.service
    assert service is not None  # refused at load
    picked = [] if channel is None else [exact_header(CHANNEL_HEADER, channel.name)]
    if route.signed_parameters:
        picked.append(exact_header(ROUTE_HEADER, route.name))
    split = splits[service]
    weighted = _to(route, name, channel, picked, filters, service, split, None)
    above = [
        _to(route, name, channel, [*picked, *headers], filters, service, split, version)
        for headers, version in picked_versions(split.rules)
    ]
    return [*above, weighted]


def _to(
    route: Route,
    name: str,
    channel: Channel | None,
    picked: list[route_v3.HeaderMatcher],
    filters: dict[str, Any],
    service: str,
    split: Traffic,
    version: str | None,
) -> route_v3.Route:
    """To one version, or by weight."""
    rewriting = route.forwarding.rewriting
    action = route_v3.RouteAction(
        cluster=None if version is None else fallbacks.cluster_of(route, service, version),
        weighted_clusters=_split(route, service, split.weights) if version is None else None,
        # Sticky: the same merchant hashes to the same version as long as the order of the clusters stays.
        hash_policy=[
            route_v3.RouteActionHashPolicy(header=route_v3.RouteActionHashPolicyHeader(header_name=SPLIT_HEADER))
        ],
        timeout=datetime.timedelta(milliseconds=route.timeout_ms),
        idle_timeout=_shortest(ext_proc_filters.idle_timeout(route, channel), route.forwarding.idle_timeout_ms),
        retry_policy=retry_policy(route.forwarding.retry),
        request_mirror_policies=[
            *mirror_policies(route.forwarding.mirrors),
            *release_mirrors(route, service, split.rules, version),
        ],
        prefix_rewrite=rewriting.prefix or "",
        host_rewrite_literal=rewriting.host,
    )
    return route_v3.Route(
        name=name,
        match=envoy_match(route.match, picked),
        route=action,
        # What we are to read must not come compressed.
        request_headers_to_remove=[
            *rewriting.removed,
            *(["accept-encoding"] if ext_proc_filters.reads_answer(route, channel) else []),
        ],
        request_headers_to_add=headers_to_add(rewriting),
        typed_per_filter_config={**filters, **faults.per_route(route), **fault_of(route, service, split.rules)},
    )


def _shortest(limit: datetime.timedelta | None, idle_timeout_ms: int | None) -> datetime.timedelta | None:
    own = None if idle_timeout_ms is None else datetime.timedelta(milliseconds=idle_timeout_ms)
    return min((one for one in (limit, own) if one is not None), default=None)


def _split(route: Route, service: str, weights: Mapping[str, int]) -> route_v3.WeightedCluster:
    clusters = [
        route_v3.WeightedClusterClusterWeight(name=fallbacks.cluster_of(route, service, version), weight=weight)
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
