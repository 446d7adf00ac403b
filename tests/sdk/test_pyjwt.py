"""PyJWT as the client: a merchant that sends tokens of its identity provider, through the real Envoy."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import jwt
import pytest

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.world import JSON, Answer, World
from paymesh.cli.stack.local_stack import LocalStack

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="session")]
KID = "demo-2026"


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    whole = {"iss": "https://id.example", "aud": "paymesh", "sub": "cinema", "iat": now, "exp": now + 300, **changes}
    return {name: value for name, value in whole.items() if value is not None}


@pytest.fixture
def key(stack: LocalStack) -> str:
    return (stack.keys / "jwt_issuer.pem").read_text()


async def pay(world: World, token: str, number: str | None = None) -> Answer:
    body = json.dumps(payment(number or secrets.token_hex(8), "alipay_qr")).encode()
    return await world.send("POST", "/v1/payments", {**JSON, "Authorization": f"Bearer {token}"}, body)


def signed(key: Any, payload: dict[str, object], algorithm: str = "RS256", **headers: object) -> str:
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": KID, **headers})


async def test_a_token_is_its_subjects_merchant(world: World, key: str) -> None:
    answer = await pay(world, signed(key, claims()))
    assert (answer.status, answer.reason) == (200, "")


async def test_a_token_may_come_again_with_another_order(world: World, key: str) -> None:
    token = signed(key, claims())
    assert [(await pay(world, token)).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": -3600},
        {"iat": 3600},
        {"nbf": 3600},
        {"iss": "https://other.example"},
        {"aud": "another"},
        {"aud": ["another", "third"]},
        {"sub": "teahouse"},
        {"exp": None},
        {"iat": None},
        {"aud": None},
        {"sub": None},
        {"cnf": {"jkt": "x"}},
    ],
    ids=str,
)
async def test_claims_that_do_not_hold_are_refused(world: World, key: str, changes: dict[str, object]) -> None:
    """Numbers are seconds from now, since every worker of the test run must name the same cases."""
    now = int(time.time())
    moved = {name: now + value if isinstance(value, int) else value for name, value in changes.items()}
    answer = await pay(world, signed(key, claims(**moved)))
    assert (answer.status, answer.reason) == (401, "credential_invalid")


async def test_the_attacks_of_rfc_8725_are_refused(world: World, stack: LocalStack, key: str) -> None:
    public = (stack.keys / "jwt_issuer_pub.pem").read_bytes()
    head, payload, signature = signed(key, claims()).split(".")
    other = (stack.keys / "alipay_merchant.pem").read_text()
    unsigned = jwt.encode(claims(), None, algorithm="none", headers={"kid": KID})
    # PyJWT itself refuses to sign HS256 with a public key, so the confusion is made by hand.
    confused = jwt.PyJWS().encode(
        json.dumps(claims()).encode(), public.replace(b"-----", b"====="), algorithm="HS256", headers={"kid": KID}
    )
    for token in (
        unsigned,
        confused,
        signed(other, claims()),
        signed(other, claims(), jwk={"kty": "oct", "k": "AAAA"}),
        signed(key, claims(), crit=["exp"]),
        signed(key, claims(), kid="unknown"),
        f"{head}.{payload}.",
        f"{head}.{payload}.{signature}=",
        f"{head}.{payload}.{signature[:-2]}",
        f"{head}.{payload}",
        "",
    ):
        answer = await pay(world, token)
        assert (answer.status, answer.reason) == (401, "credential_invalid"), token


async def test_a_login_shows_the_upstream_who_the_person_is(world: World, key: str) -> None:
    for headers, expected in (
        ({"Authorization": f"Bearer {signed(key, claims(aud='bookshop-app', sub='li/雷'))}"}, 200),
        ({"Authorization": f"Bearer {signed(key, claims(sub='li'))}"}, 401),
        ({}, 401),
        ({"x-pay-user": "members:root"}, 401),
    ):
        answer = await world.send("POST", "/v1/login", headers)
        assert answer.status == expected, answer
        if expected == 200:
            assert answer.document == {"user": "members:li%2F%E9%9B%B7"}
        else:
            assert answer.reason == ("user_invalid" if "Authorization" in headers else "user_missing")


async def test_two_tokens_decide_nothing(world: World, key: str) -> None:
    token = signed(key, claims())
    answer = await pay(world, f"{token}, Bearer {token}")
    assert (answer.status, answer.reason) == (401, "credential_invalid")
