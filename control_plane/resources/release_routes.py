"""Owns what a release adds to the routes of its service: who goes to which version whatever the weights, copies for a
version that is looked at, and faults for it on purpose."""

from __future__ import annotations

from collections.abc import Iterator

from envoy_data_plane.envoy.config.route import v3 as route_v3
from envoy_data_plane.google.protobuf import Any

from control_plane.resources import fallbacks, faults
from control_plane.resources.matching import cookie_header, exact_header
from control_plane.resources.mirroring import mirror_to
from paymesh.payments.internal_names import VERSION_HEADER, version_cluster
from paymesh.payments.policy.compiled import Route
from paymesh.payments.releases.traffic import COOKIE, HEADER, MERCHANT, Rules


def picked_versions(rules: Rules) -> Iterator[tuple[list[route_v3.HeaderMatcher], str]]:
    """Headers and the version that a request with all of them goes to, in the order in which they count: what ext_authz
    says of the order or the merchant comes first."""
    said = [*rules.orders_stay, *(pin.version for pin in rules.pins if pin.kind == MERCHANT)]
    for version in dict.fromkeys(said):
        yield [exact_header(VERSION_HEADER, version)], version
    for pin in rules.pins:
        if pin.kind == HEADER:
            yield [exact_header(pin.name, pin.value)], pin.version
        elif pin.kind == COOKIE:
            yield [cookie_header(pin.name, pin.value)], pin.version


def release_mirrors(
    route: Route, service: str, rules: Rules, version: str | None
) -> list[route_v3.RouteActionRequestMirrorPolicy]:
    """Copies for the version that a release looks at; none of what goes there anyway."""
    if rules.mirror is None or not route.forwarding.safe_to_repeat or version == rules.mirror[0]:
        return []
    name, share = rules.mirror
    return [mirror_to(version_cluster(service, name), share)]


def fault_of(route: Route, service: str, rules: Rules) -> dict[str, Any]:
    """What a drill does to one version's requests. It takes the place of the route's own fault."""
    if rules.fault is None:
        return {}
    version, fault = rules.fault
    return {faults.NAME: Any.pack(faults.http_fault_of(fault, fallbacks.cluster_of(route, service, version)))}
