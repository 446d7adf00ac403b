"""Owns what an Envoy in front of one application gets: the same checks as at the gateway, and nothing to route.

Refuses a policy that selects channels or splits traffic: there is one application, and what was decided elsewhere must
not be decided again (DESIGN section 1). Such an Envoy names itself in its bootstrap's node metadata:
`paymesh.kind: sidecar` and `paymesh.application: 127.0.0.1:8000`.
"""

from __future__ import annotations

import dataclasses
import ipaddress

from paymesh.payments.policy.compiled import TOTAL_WEIGHT, Endpoint, Policy, Service, ServiceVersion
from paymesh.payments.policy.upstreams import Upstream

_VERSION = "application"
_CONNECT_TIMEOUT_MS = 500


class UnsuitablePolicy(Exception):  # noqa: N818 - it names what was found
    """The policy cannot be run in front of one application; the message says why."""


def sidecar_policy(policy: Policy, application: str) -> tuple[Policy, dict[str, dict[str, int]]]:
    """The policy with every service at `application` (IP:PORT), and its weights. Raises UnsuitablePolicy."""
    endpoint = _endpoint(application)
    routes = [one for route in policy.routes for one in (route, *route.variants)]
    choosing = sorted(route.name for route in routes if route.by_channel)
    used = {route.service for route in routes if route.service is not None}
    split = sorted(name for name in used if len(policy.services[name].versions) > 1)
    problems = [f"route {name} selects a channel" for name in choosing]
    problems += [f"service {name} is split between versions" for name in split]
    if problems:
        raise UnsuitablePolicy(f"a sidecar has one application: {'; '.join(problems)}")
    services = {
        name: Service(
            name,
            (ServiceVersion(_VERSION, (endpoint,), TOTAL_WEIGHT),),
            Upstream(connect_timeout_ms=_CONNECT_TIMEOUT_MS),
        )
        for name in policy.services
    }
    weights = {name: {_VERSION: TOTAL_WEIGHT} for name in services}
    return dataclasses.replace(policy, services=services), weights


def _endpoint(application: str) -> Endpoint:
    host, _, port = application.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        return Endpoint(host.strip("[]"), int(port))
    except ValueError:
        raise UnsuitablePolicy(f"paymesh.application is IP:PORT, not {application[:64]!r}") from None
