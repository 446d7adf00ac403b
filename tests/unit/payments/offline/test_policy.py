"""A `bill` route, as offline payments have it: to a service, authenticated, without a channel."""

from __future__ import annotations

from pathlib import Path

import pytest

from paymesh.payments.policy.compiled import Operation
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors

REPOSITORY = Path(__file__).resolve().parents[4]
POLICY = """
services: [{name: ledger, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 9003}]}]}]
channels: [{name: card, service: ledger}]
routes:
  - {name: told, match: {path: /v1/offline-payments, methods: [POST]}, operation: bill, ROUTE}
"""


def test_the_demo_has_both_routes(demo_environ: dict[str, str]) -> None:
    policy = load_policy([REPOSITORY / "examples" / "demo"], demo_environ)
    for name in ("offline-payments", "offline-payment"):
        route = policy.routes_by_name[name]
        assert (route.operation, route.channels, route.service) == (Operation.BILL, (), "ledger")


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ("service: ledger", "a bill route without credentials would be open to anybody"),
        ("schemes: [hmac]", "service is required"),
        ("schemes: [hmac], service: ledger, channels: [card]", "a bill route goes by no channel: name its service"),
    ],
)
def test_what_would_be_wrong_is_said(tmp_path: Path, route: str, problem: str) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.replace("ROUTE", route))
    with pytest.raises(PolicyErrors, match=problem):
        load_policy([tmp_path], {})
