"""Owns fault injection: Envoy's fault filter, in the listener of a trial gateway only, and what a route adds to it.

It stands behind ext_authz and before everything that changes or sends: what a fault hits was let in, as what a service
fails to answer is, and no service has seen it. So an aborted payment is recorded as an attempt that was not sent, and
its order can be paid again. In front of ext_authz strangers would be answered by faults, routes that are told apart by
signed parameters would not be known, and neither would the version that a fault may be meant for.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from envoy_data_plane.envoy.config.route import v3 as route_v3
from envoy_data_plane.envoy.extensions.filters.common.fault import v3 as common_fault
from envoy_data_plane.envoy.extensions.filters.http.fault import v3 as http_fault
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any

from control_plane.resources.matching import exact_header
from paymesh.payments.policy.compiled import Policy, Route
from paymesh.payments.policy.forwarding import Fault

NAME = "envoy.filters.http.fault"


def http_filters(policy: Policy) -> list[hcm.HttpFilter]:
    """Where faults are not allowed there is no filter that could inject one."""
    if not policy.gateway.allow_fault_injection:
        return []
    return [hcm.HttpFilter(name=NAME, typed_config=Any.pack(http_fault.HttpFault()))]


def per_route(route: Route) -> dict[str, Any]:
    fault = route.forwarding.fault
    return {} if fault is None else {NAME: Any.pack(http_fault_of(fault))}


def http_fault_of(fault: Fault, cluster: str = "") -> http_fault.HttpFault:
    """`cluster`: only requests that go there, such as to one version of a service; empty: any."""
    return http_fault.HttpFault(
        delay=None if fault.delay_ms is None else _delay(fault.delay_ms, fault.delayed),
        abort=None
        if fault.status is None
        else http_fault.FaultAbort(http_status=fault.status, percentage=_percent(fault.aborted)),
        upstream_cluster=cluster,
        headers=list(_headers(fault)),
        # Everything can be told by the route's name; a counter for each downstream cluster would be a caller's to fill.
        disable_downstream_cluster_stats=True,
    )


def _delay(delay_ms: int, share: int) -> common_fault.FaultDelay:
    return common_fault.FaultDelay(fixed_delay=datetime.timedelta(milliseconds=delay_ms), percentage=_percent(share))


def _headers(fault: Fault) -> Iterable[route_v3.HeaderMatcher]:
    for name, exact in fault.headers:
        yield route_v3.HeaderMatcher(name=name, present_match=True) if exact is None else exact_header(name, exact)


def _percent(share: int) -> envoy_type.FractionalPercent:
    """`share`: of 10,000."""
    ten_thousand = envoy_type.FractionalPercentDenominatorType.TEN_THOUSAND
    return envoy_type.FractionalPercent(numerator=share, denominator=ten_thousand)
