"""The step in the pipeline, with a policy from YAML and a real provider: header upstream, refusals, an outage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ext_authz.check_context import CheckContext, Decision
from ext_authz.pipeline import build_pipeline, decide, in_process_stores
from ext_authz.wire import upstream_headers, write_response
from paymesh.payments.denial import Reason
from paymesh.payments.internal_names import USER_HEADER
from paymesh.payments.policy.load import load_policy
from paymesh.payments.request import Request
from paymesh.payments.users.identify import UserIdentifier
from tests.unit.payments.users.idp import IdentityProvider

NOW = 1_800_000_000
POLICY = """
services:
  - name: profile
    versions: [{{name: v1, endpoints: [{{address: 127.0.0.1, port: 1}}]}}]
user_providers:
  - {{kind: userinfo, name: oidc, url: "{url}/userinfo"}}
  - {{kind: wechat_oauth, name: wechat, url: "{url}", app_id: wx1, app_secret: {{env: WX}}}}
routes:
  - {{name: me, match: {{path: /me}}, operation: other, service: profile, users: [oidc, wechat]}}
  - {{name: open, match: {{path: /open}}, operation: other, service: profile}}
"""


class Gate:
    def __init__(self, identifier: UserIdentifier, file: Path) -> None:
        self.policy = load_policy([file], {"WX": "app-secret"})
        self.steps = build_pipeline(replace(in_process_stores(), users=identifier))

    async def check(self, target: str, **headers: str) -> Decision:
        request = Request("GET", target, {name: (value,) for name, value in headers.items()}, b"", "r-1")
        return await decide(self.steps, CheckContext(request, self.policy, NOW, monotonic_ns=0))


@pytest.fixture
async def gate(identifier: UserIdentifier, idp: IdentityProvider, tmp_path: Path) -> Gate:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.format(url=idp.url))
    return Gate(identifier, file)


def reason(decision: Decision) -> Reason | None:
    return None if decision.denial is None else decision.denial.reason


async def test_the_user_is_sent_upstream(gate: Gate, idp: IdentityProvider) -> None:
    idp.answer = {"sub": "jane doe"}
    decision = await gate.check("/me", authorization="Bearer t0ken")
    assert reason(decision) is None
    assert (USER_HEADER, "oidc:jane%20doe") in upstream_headers(decision)
    assert "jane" not in repr(decision.steps)
    assert "t0ken" not in repr(decision.steps)


async def test_a_code_in_the_query_is_exchanged_once(gate: Gate, idp: IdentityProvider) -> None:
    idp.answer = {"openid": "o-1"}
    for _ in range(3):
        decision = await gate.check("/me?code=c0de")
        assert (USER_HEADER, "wechat:o-1") in upstream_headers(decision)
    assert len(idp.requests) == 1


async def test_no_token(gate: Gate, idp: IdentityProvider) -> None:
    decision = await gate.check("/me")
    assert reason(decision) is Reason.USER_MISSING
    assert write_response(decision, None).denied_response.status.code == 401
    assert idp.requests == []


async def test_a_refused_token(gate: Gate, idp: IdentityProvider) -> None:
    idp.status = 401
    decision = await gate.check("/me", authorization="Bearer t0ken")
    assert reason(decision) is Reason.USER_INVALID
    assert write_response(decision, None).denied_response.status.code == 401


async def test_an_outage_is_a_503(gate: Gate, idp: IdentityProvider) -> None:
    idp.status = 500
    decision = await gate.check("/me", authorization="Bearer t0ken")
    assert reason(decision) is Reason.UNAVAILABLE
    assert write_response(decision, None).denied_response.status.code == 503


async def test_a_route_that_asks_for_nobody(gate: Gate, idp: IdentityProvider) -> None:
    decision = await gate.check("/open", authorization="Bearer t0ken")
    assert reason(decision) is None
    assert USER_HEADER not in dict(upstream_headers(decision))
    assert idp.requests == []
