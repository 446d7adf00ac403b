"""Users of every kind of provider, through the real Envoy: the upstream sees who it is, the provider is asked once."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import rsa

from paymesh.cli.demo.world import Answer, World
from paymesh.cli.stack.local_stack import DEMO_POLICY, LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from tests.unit.payments.users.idp import IdentityProvider, alipay_answer, private_pem, public_pem, running

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]

PROVIDERS = """
user_providers:
  - {{name: tokens, kind: introspection, url: "{idp}/introspect", client_id: gateway, client_secret: {{file: idp.key}}}}
  - {{name: oidc, kind: userinfo, url: "{idp}/userinfo"}}
  - name: alipay
    kind: alipay_oauth
    url: "{idp}/gateway.do"
    app_id: "2021000000000001"
    private_key: {{file: app.pem}}
    alipay_public_key: {{file: alipay_pub.pem}}
  - {{name: wechat, kind: wechat_oauth, url: "{idp}", app_id: wx8888888888888888, app_secret: {{file: idp.key}}}}
routes:
"""
ROUTE = """
  - name: login-{name}
    match: {{path: /v1/login, methods: [POST], headers: [{{name: login-with, exact: {name}}}]}}
    operation: login
    users: [{name}]
    service: trade
"""
NAMES = ("tokens", "oidc", "alipay", "wechat")


@dataclass(frozen=True)
class Login:
    world: World
    idp: IdentityProvider
    alipay: rsa.RSAPrivateKey

    async def by(self, name: str, token: str) -> Answer:
        headers, target = {"login-with": name}, "/v1/login"
        if name in ("tokens", "oidc"):
            headers["Authorization"] = f"Bearer {token}"
        elif name == "alipay":
            target = f"/v1/login?auth_code={token}"
        else:
            target = f"/v1/login?code={token}"
        return await self.world.send("POST", target, headers)

    def says(self, name: str) -> None:
        """The provider knows the person from now on."""
        alipay = json.dumps({"user_id": "2088123", "access_token": "t", "expires_in": "3600", "refresh_token": "r"})
        self.idp.answer = {
            "tokens": {"active": True, "sub": "li", "exp": int(time.time()) + 600},
            "oidc": {"sub": "li"},
            "alipay": alipay_answer(self.alipay, "alipay_system_oauth_token_response", alipay),
            "wechat": {"openid": "o6_bmjrPTlm6_2sgVt7hMZOPfL2M", "access_token": "t", "expires_in": 7200},
        }[name]
        self.idp.headers = {"content-type": "application/json"}

    def denies(self, name: str) -> None:
        refused = json.dumps({"code": "40002", "msg": "Invalid Arguments", "sub_code": "isv.code-invalid"})
        self.idp.answer = {
            "tokens": {"active": False},
            "oidc": {"error": "invalid_token"},
            "alipay": alipay_answer(self.alipay, "error_response", refused),
            "wechat": {"errcode": 40029, "errmsg": "invalid code"},
        }[name]
        self.idp.status = 401 if name == "oidc" else 200
        self.idp.headers = {"content-type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def login(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Login]:
    folder: Path = tmp_path_factory.mktemp("login")
    alipay, app = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    (folder / "idp.key").write_text("a-throw-away-secret-of-the-client")
    (folder / "app.pem").write_text(private_pem(app))
    (folder / "alipay_pub.pem").write_text(public_pem(alipay))
    async with running() as idp:
        routes = "".join(ROUTE.format(name=name) for name in NAMES)
        (folder / "login.yaml").write_text(PROVIDERS.format(idp=idp.url) + routes)
        options = StackOptions(policy=(DEMO_POLICY, folder), run_dir=folder / "run", ports=Ports.random())
        async with LocalStack(options, say=lambda _: None) as stack:
            await stack.ready()
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
                yield Login(World(session, stack.ports.address("gateway"), stack.keys, {}), idp, alipay)


@pytest.fixture(autouse=True)
def _healthy(login: Login) -> None:
    login.idp.status = 200
    login.idp.requests.clear()


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("tokens", "tokens:li"),
        ("oidc", "oidc:li"),
        ("alipay", "alipay:2088123"),
        ("wechat", "wechat:o6_bmjrPTlm6_2sgVt7hMZOPfL2M"),
    ],
)
async def test_the_upstream_sees_the_user_and_the_provider_is_asked_once(login: Login, name: str, user: str) -> None:
    login.says(name)
    answers = [await login.by(name, "token-one") for _ in range(3)]
    assert [(answer.status, answer.document) for answer in answers] == [(200, {"user": user})] * 3
    assert len(login.idp.requests) == 1


@pytest.mark.parametrize("name", NAMES)
async def test_a_token_of_nobody_is_401_and_an_outage_503(login: Login, name: str) -> None:
    login.denies(name)
    refused = await login.by(name, "token-of-nobody")
    assert (refused.status, refused.reason) == (401, "user_invalid")
    login.idp.status, login.idp.answer = 500, {}
    away = await login.by(name, "token-two")
    assert (away.status, away.reason) == (503, "unavailable")
