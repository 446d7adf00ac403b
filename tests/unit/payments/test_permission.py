"""What a known merchant may do, and only in its own name."""

from __future__ import annotations

from typing import Any

import pytest

from paymesh.payments.credentials.claim import Authenticated
from paymesh.payments.denial import Reason
from paymesh.payments.permission import in_its_own_name, permitted
from paymesh.payments.policy.callers import Merchant, Scheme
from paymesh.payments.policy.compiled import Fields, Operation, PathKind, Protocol, Route, RouteMatch


def caller(
    *, scopes: frozenset[str] | None = None, proves: dict[str, str] | None = None, **limits: Any
) -> Authenticated:
    return Authenticated(Merchant("shop", {}, **limits), Scheme.HMAC, "k", scopes=scopes, proves=proves or {})


def route(operation: Operation = Operation.PAY, scopes: frozenset[str] = frozenset()) -> Route:
    match = RouteMatch(PathKind.EXACT, "/pay", None, frozenset({"POST"}))
    return Route(
        name="pay",
        match=match,
        operation=operation,
        schemes=(Scheme.HMAC,),
        protocol=Protocol.PAYMESH,
        fields=Fields(),
        rate_limits=(),
        channels=(),
        service="trade",
        sanitize_request=(),
        observe_response=False,
        timeout_ms=1000,
        scopes=scopes,
    )


@pytest.mark.parametrize(
    ("merchant", "allowed"),
    [
        (caller(), True),
        (caller(routes=frozenset({"pay"})), True),
        (caller(routes=frozenset({"other"})), False),
        (caller(routes=frozenset()), False),
        (caller(operations=frozenset({Operation.PAY})), True),
        (caller(operations=frozenset({Operation.QUERY})), False),
    ],
)
def test_routes_and_operations(merchant: Authenticated, allowed: bool) -> None:
    denial = permitted(merchant, route())
    assert (denial is None) is allowed
    assert denial is None or denial.reason is Reason.NOT_PERMITTED


def test_a_token_has_all_scopes_of_the_route_and_other_schemes_have_none_to_lack() -> None:
    asked = route(scopes=frozenset({"pay:write", "pay:read"}))
    assert permitted(caller(scopes=frozenset({"pay:write", "pay:read", "more"})), asked) is None
    assert permitted(caller(scopes=frozenset({"pay:write"})), asked) is not None
    assert permitted(caller(scopes=frozenset()), asked) is not None
    assert permitted(caller(scopes=None), asked) is None


WECHAT = {"mchid": "1900000001"}


@pytest.mark.parametrize(
    ("document", "query", "allowed"),
    [
        ({}, "", True),
        ({"mchid": "1900000001"}, "", True),
        ({"mchid": "1900000002"}, "", False),
        ({"sp_mchid": "1900000001", "sub_mchid": "1900000009"}, "", True),
        ({"sp_mchid": "1900000002"}, "", False),
        ({"mchid": None}, "", False),
        ({"mchid": 1900000001}, "", False),
        (None, "mchid=1900000001", True),
        (None, "mchid=1900000002", False),
        (None, "mchid=1900000001&mchid=1900000002", False),
        (None, "mch%69d=1900000002", False),
        (None, "mchid=", False),
        ({"appid": "wx1"}, "", True),
        ({"appid": "wx2"}, "", False),
        ({"sp_appid": "wx2"}, "", False),
    ],
)
def test_a_wechat_message_speaks_for_its_signer_only(document: object, query: str, allowed: bool) -> None:
    merchant = caller(proves=WECHAT, app_ids=frozenset({"wx1"}))
    denial = in_its_own_name(merchant, Protocol.WECHAT_V3, document, query, None)
    assert (denial is None) is allowed
    assert denial is None or "19000000" not in denial.detail


@pytest.mark.parametrize(
    ("app_id", "app_ids", "proves", "allowed"),
    [
        (None, None, {}, True),
        ("a1", frozenset({"a1"}), {}, True),
        ("a2", frozenset({"a1"}), {}, False),
        ("a1", None, {}, False),
        ("a1", None, {"app_id": "a1"}, True),
        (None, frozenset({"a1"}), {"app_id": "a1"}, True),
        (None, frozenset({"a1"}), {"app_id": "a2"}, False),
    ],
)
def test_app_ids(app_id: str | None, app_ids: frozenset[str] | None, proves: dict[str, str], allowed: bool) -> None:
    merchant = caller(proves=proves, app_ids=app_ids)
    assert (in_its_own_name(merchant, Protocol.PAYMESH, {}, "", app_id) is None) is allowed
