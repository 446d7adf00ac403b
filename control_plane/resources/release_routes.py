"""Owns what a release adds to the routes of its service: who goes to which version whatever the weights, copies for a
version that is looked at, and faults for it on purpose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from envoy_data_plane.envoy.config.route import v3 as route_v3
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from control_plane.resources import fallbacks, faults
from control_plane.resources.matching import cookie_header, exact_header
from control_plane.resources.mirroring import mirror_to
from paymesh.payments.internal_names import MERCHANT_HEADER, VERSION_HEADER, version_cluster
from paymesh.payments.policy.compiled import Route
from paymesh.payments.releases.traffic import Pin, Rules


def picked_versions(rules: Rules) -> Iterator[tuple[list[route_v3.HeaderMatcher], str]]:
    """Headers and the version that a request with all of them goes to, in the order in which they count: an order stays
    where it began before its merchant is anywhere."""
    for version in rules.orders_stay:
        yield [exact_header(VERSION_HEADER, version)], version
    for (version, kind), pins in groupby(rules.pins, key=lambda pin: (pin.version, pin.kind)):
        if kind == "merchant":
            yield [_one_of(MERCHANT_HEADER, [pin.value for pin in pins])], version
        else:
            for pin in pins:
                yield [_pinned(pin)], version


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


def _pinned(pin: Pin) -> route_v3.HeaderMatcher:
    return cookie_header(pin.name, pin.value) if pin.kind == "cookie" else exact_header(pin.name, pin.value)


def _one_of(name: str, values: list[str]) -> route_v3.HeaderMatcher:
    """One matcher for a thousand merchants: a route for each would make thousands."""
    if len(values) == 1:
        return exact_header(name, values[0])
    regex = matcher.RegexMatcher(regex="|".join(re.escape(value) for value in values))
    return route_v3.HeaderMatcher(name=name, string_match=matcher.StringMatcher(safe_regex=regex))
