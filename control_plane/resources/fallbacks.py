"""Owns what is given in the place of a service that has no healthy host: a declared answer, or another service.

The answer is a local reply, chosen by the route's name and the flag UH, which Envoy sets only where it found no host to
send to: whatever ext_authz refused, a service answered or a connection broke stays what it is. The other service stands
behind the first one in an aggregate cluster, a cluster a version.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel import v3 as cel
from envoy_data_plane.envoy.extensions.clusters.aggregate import v3 as aggregate
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any

from paymesh.payments.internal_names import FALLBACK_HEADER, version_cluster
from paymesh.payments.policy.compiled import Policy, Route
from paymesh.payments.policy.forwarding import DeclaredAnswer

_NO_HOST = "UH"


def cluster_of(route: Route, service: str, version: str) -> str:
    """The cluster that takes the route's requests to this version."""
    other = route.forwarding.fallback_service
    name = version_cluster(service, version)
    return name if other is None else _name(name, other)


def clusters(policy: Policy) -> list[cluster.Cluster]:
    """The aggregate ones."""
    pairs = {
        (route.service, route.forwarding.fallback_service)
        for entry in policy.routes
        for route in (entry.variants or (entry,))
        if route.service is not None and route.forwarding.fallback_service is not None
    }
    found = []
    for name, other in sorted(pairs):
        (last,) = policy.services[other].versions  # one, or the policy was refused
        for version in policy.services[name].versions:
            found.append(_aggregate(version_cluster(name, version.name), other, version_cluster(other, last.name)))
    return found


def local_replies(policy: Policy) -> Iterable[hcm.ResponseMapper]:
    """The declared answers."""
    for entry in policy.routes:
        for route in entry.variants or (entry,):
            answer = route.forwarding.fallback_answer
            if answer is not None:
                yield _mapper(route, answer)


def _aggregate(name: str, other: str, last: str) -> cluster.Cluster:
    return cluster.Cluster(
        name=_name(name, other),
        connect_timeout=datetime.timedelta(seconds=1),
        lb_policy=cluster.ClusterLbPolicy.CLUSTER_PROVIDED,
        cluster_type=cluster.ClusterCustomClusterType(
            name="envoy.clusters.aggregate", typed_config=Any.pack(aggregate.ClusterConfig(clusters=[name, last]))
        ),
        # All of the first one's traffic goes there while one of its hosts is healthy.
        common_lb_config=cluster.ClusterCommonLbConfig(healthy_panic_threshold=envoy_type.Percent(value=0.0)),
    )


def _name(name: str, other: str) -> str:
    return f"{name}|or|{other}"


def _mapper(route: Route, answer: DeclaredAnswer) -> hcm.ResponseMapper:
    # A name has no quote in it. A route that goes by channel has one a channel, called route/channel.
    named = f"xds.route_name == '{route.name}' || xds.route_name.startsWith('{route.name}/')"
    there = accesslog.AccessLogFilter(
        extension_filter=accesslog.ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel",
            typed_config=Any.pack(cel.ExpressionFilter(expression=named)),
        )
    )
    no_host = accesslog.AccessLogFilter(response_flag_filter=accesslog.ResponseFlagFilter(flags=[_NO_HOST]))
    return hcm.ResponseMapper(
        filter=accesslog.AccessLogFilter(and_filter=accesslog.AndFilter(filters=[no_host, there])),
        status_code=answer.status,
        body_format_override=core.SubstitutionFormatString(
            text_format_source=core.DataSource(inline_string=answer.body.replace("%", "%%")),
            content_type=answer.content_type,
        ),
        headers_to_add=[
            core.HeaderValueOption(
                header=core.HeaderValue(key=FALLBACK_HEADER, value="answer"),
                append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        ],
    )
