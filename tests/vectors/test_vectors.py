"""Messages that nobody here made, or that another implementation made: each verifies, over exactly the recorded text.

The notification, form and certificate vectors were recorded from the published SDKs and from Envoy (protocols.md).
"""

from __future__ import annotations

import calendar
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from envoy.service.auth.v3 import external_auth_pb2

from ext_authz.wire import read_request
from paymesh.payments.credentials.authenticate import authenticate
from paymesh.payments.credentials.claim import Asked, Authenticated, Claim
from paymesh.payments.credentials.directory import PolicyKeys
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.callers import Scheme
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.request import Peer, Request

FOLDER = Path(__file__).parent
FORM = "application/x-www-form-urlencoded"
UTC_OF_SHANGHAI_S = 8 * 3600


def vector(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def policy() -> Policy:
    secrets = {
        "VECTOR_SECURE_KEY": vector("unionpay_510")["signMethod_11"]["secure_key"],
        "VECTOR_APIV3_KEY": vector("wechat_callback")["apiv3_key"],
    }
    return load_policy([FOLDER / "policy.yaml"], secrets)


def request(method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Request:
    return Request(method, target, {name.lower(): (value,) for name, value in headers.items()}, body, "id-1")


async def verify(policy: Policy, route: str, sent: Request, now_s: int) -> Authenticated | Denial:
    found = policy.routes_by_name[route]
    return await authenticate(SCHEMES[found.schemes[0]], Asked(sent, found, policy, PolicyKeys(), now_s))


def claim_of(policy: Policy, route: str, sent: Request) -> Claim:
    found = policy.routes_by_name[route]
    claim = SCHEMES[found.schemes[0]].read(sent, found)
    assert isinstance(claim, Claim), claim
    return claim


def shanghai(*moment: int) -> int:
    return calendar.timegm((*moment, 0, 0, 0)) - UTC_OF_SHANGHAI_S


# -- WeChat Pay --------------------------------------------------------------------------------------------------------


async def test_wechat_request_of_the_providers_documentation(policy: Policy) -> None:
    recorded = vector("wechat_official_doc_vector")
    method, target, *_ = recorded["string_to_sign"].split("\n")
    header = recorded["authorization"].replace("<signature>", recorded["signature"])
    sent = request(method, target, {"Authorization": header})
    result = await verify(policy, "wechat", sent, 1554208460)
    assert isinstance(result, Authenticated), result
    assert (result.merchant.id, result.timestamp_s, result.proves) == (
        "documented",
        1554208460,
        {"mchid": "1900007291"},
    )
    assert claim_of(policy, "wechat", sent).signed == recorded["string_to_sign"].encode()
    other = replace(sent, target=target.replace("123123123123", "123123123124"))
    assert isinstance(await verify(policy, "wechat", other, 1554208460), Denial)


async def test_wechat_notification(policy: Policy) -> None:
    recorded = vector("wechat_callback")
    sent = request("POST", "/notify/wechat", recorded["headers"], recorded["body"].encode())
    now_s = int(recorded["headers"]["Wechatpay-Timestamp"])
    result = await verify(policy, "wechat-notify", sent, now_s)
    assert isinstance(result, Authenticated), result
    assert (result.merchant.id, result.document) == ("documented", json.loads(recorded["plaintext"]))
    assert result.nonce == "wechat_v3_notification:wechat:EV-2018022511223320873"
    stamp, nonce = (recorded["headers"][f"Wechatpay-{name}"] for name in ("Timestamp", "Nonce"))
    assert claim_of(policy, "wechat-notify", sent).signed == f"{stamp}\n{nonce}\n{recorded['body']}\n".encode()
    longer = replace(sent, body=sent.body + b" ")
    assert isinstance(await verify(policy, "wechat-notify", longer, now_s), Denial)


# -- Alipay ------------------------------------------------------------------------------------------------------------


async def test_alipay_notification(policy: Policy) -> None:
    recorded = vector("alipay_notify")
    body = recorded["wire_body"].encode()
    sent = request("POST", "/notify/alipay", {"Content-Type": recorded["content_type"]}, body)
    now_s = shanghai(2026, 11, 22, 22, 0, 6)
    result = await verify(policy, "alipay-notify", sent, now_s)
    assert isinstance(result, Authenticated), result
    assert (result.merchant.id, result.timestamp_s, result.document) == ("recorded", now_s, recorded["form"])
    assert result.proves == {"app_id": "2021000000000001", "seller_id": "2088100000000000"}
    assert claim_of(policy, "alipay-notify", sent).signed == recorded["string_to_sign"].encode()
    cheaper = replace(sent, body=body.replace(b"88.88", b"88.89"))
    assert isinstance(await verify(policy, "alipay-notify", cheaper, now_s), Denial)


# -- UnionPay ----------------------------------------------------------------------------------------------------------


async def test_unionpay_by_certificate(policy: Policy) -> None:
    recorded = vector("unionpay_510")
    sent = form(recorded["wire_body"].encode(), recorded["content_type"])
    now_s = shanghai(2026, 11, 22, 22, 0, 0)
    result = await verify(policy, "unionpay", sent, now_s)
    assert isinstance(result, Authenticated), result
    assert (result.merchant.id, result.timestamp_s, result.parameters) == ("recorded", now_s, recorded["form"])
    claim = claim_of(policy, "unionpay", sent)
    assert claim.signed == recorded["sha256_hex"].encode()
    assert claim.string_to_sign == recorded["string"].encode()


async def test_unionpay_by_secure_key(policy: Policy) -> None:
    recorded = vector("unionpay_510")
    secret = recorded["signMethod_11"]
    fields = recorded["form"] | {"signMethod": "11", "signature": secret["signature"]}
    sent = form("&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items()).encode())
    result = await verify(policy, "unionpay", sent, shanghai(2026, 11, 22, 22, 0, 0))
    assert isinstance(result, Authenticated), result
    assert result.merchant.id == "recorded"
    claim = claim_of(policy, "unionpay", sent)
    # What is hashed has the key's digest after it, which is a secret: the text to compare ends before.
    assert secret["string"].encode().startswith(claim.string_to_sign)
    assert claim.string_to_sign == claim.signed == recorded["string"].replace("Method=01", "Method=11").encode()


def form(body: bytes, content_type: str = FORM) -> Request:
    return request("POST", "/gateway/api/backTransReq.do", {"Content-Type": content_type}, body)


# -- mTLS --------------------------------------------------------------------------------------------------------------


def checked(recorded: dict[str, Any], **changes: str) -> Request:
    """The recorded connection as Envoy tells it to ext_authz."""
    told = recorded["ext_authz_CheckRequest"] | changes
    message = external_auth_pb2.CheckRequest()
    source, http = message.attributes.source, message.attributes.request.http
    source.principal = told["attributes.source.principal"]
    source.certificate = told["attributes.source.certificate (URL-encoded PEM) prefix"]
    http.method, http.path = "GET", "/v1/payments/1"
    header = http.header_map.headers.add()
    header.key, header.value = "x-forwarded-client-cert", told["headers.x-forwarded-client-cert"]
    return read_request(message)


async def test_the_callers_certificate_is_the_connections(policy: Policy) -> None:
    recorded = vector("xfcc")
    sent = checked(recorded)
    result = await verify(policy, "mtls", sent, 0)
    assert isinstance(result, Authenticated), result
    assert (result.merchant.id, result.scheme) == ("recorded", Scheme.MTLS)


@pytest.mark.parametrize("header", ["By=spoof;URI=spiffe://evil", ""])
async def test_what_a_client_writes_about_its_certificate_says_nothing(policy: Policy, header: str) -> None:
    recorded = vector("xfcc")
    genuine = checked(recorded, **{"headers.x-forwarded-client-cert": header})
    assert isinstance(await verify(policy, "mtls", genuine, 0), Authenticated)
    claimed = recorded["ext_authz_CheckRequest"]["headers.x-forwarded-client-cert"]
    stranger = replace(
        checked(recorded, **{"headers.x-forwarded-client-cert": claimed}), peer=Peer("spiffe://evil", "none")
    )
    result = await verify(policy, "mtls", stranger, 0)
    assert isinstance(result, Denial)
    assert result.reason is Reason.CREDENTIAL_INVALID
    nobody = replace(stranger, peer=None)
    assert not SCHEMES[Scheme.MTLS].recognises(nobody)
