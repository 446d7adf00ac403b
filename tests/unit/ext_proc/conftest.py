"""A hand-built policy with one route of each sort that ext_proc meets."""

import pytest
from prometheus_client import CollectorRegistry

from ext_proc.record import Record
from paymesh.payments.policy.compiled import (
    Fields,
    MaskKind,
    Operation,
    PathKind,
    Policy,
    Protocol,
    Route,
    RouteMatch,
    SanitizeAction,
    SanitizeRule,
    Scheme,
)


def route(
    name: str,
    *,
    protocol: Protocol = Protocol.PAYMESH,
    operation: Operation = Operation.PAY,
    sanitize: tuple[SanitizeRule, ...] = (),
    observe: bool = True,
) -> Route:
    return Route(
        name=name,
        match=RouteMatch(PathKind.EXACT, f"/{name}", None, frozenset({"POST"})),
        operation=operation,
        schemes=(Scheme.HMAC,),
        protocol=protocol,
        fields=Fields(),
        rate_limits=(),
        channels=(),
        service="trade",
        sanitize_request=sanitize,
        observe_response=observe,
        timeout_ms=1000,
    )


@pytest.fixture
def policy() -> Policy:
    phone = SanitizeRule(("payer", "phone"), SanitizeAction.MASK, MaskKind.PHONE)
    cvv = SanitizeRule(("card", "cvv"), SanitizeAction.DROP)
    routes = (
        route("pay", sanitize=(phone, cvv)),
        route("wechat", protocol=Protocol.WECHAT_V3, sanitize=(phone,)),
        route("notify", operation=Operation.NOTIFY, observe=False),
    )
    return Policy("v1", routes, {}, {}, {}, {}, {}, {}, {}, {}, {}, {found.name: found for found in routes})


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def record(registry: CollectorRegistry) -> Record:
    return Record(registry)
