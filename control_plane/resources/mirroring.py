"""Owns mirroring: a copy of some of a route's requests to another service, whose answers nobody reads.

Only of routes whose requests do no harm when they are seen twice; the policy is refused otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route_v3
from envoy_data_plane.envoy.type import v3 as envoy_type

from paymesh.payments.internal_names import version_cluster
from paymesh.payments.policy.forwarding import Mirror


def mirror_policies(mirrors: Iterable[Mirror]) -> list[route_v3.RouteActionRequestMirrorPolicy]:
    return [mirror_to(version_cluster(mirror.service, mirror.version), mirror.share) for mirror in mirrors]


def mirror_to(cluster: str, share: int) -> route_v3.RouteActionRequestMirrorPolicy:
    """`share`: of 10,000. The copies go to `cluster` with `-shadow` behind their host name."""
    ten_thousand = envoy_type.FractionalPercentDenominatorType.TEN_THOUSAND
    return route_v3.RouteActionRequestMirrorPolicy(
        cluster=cluster,
        runtime_fraction=core.RuntimeFractionalPercent(
            default_value=envoy_type.FractionalPercent(numerator=share, denominator=ten_thousand)
        ),
    )
