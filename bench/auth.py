"""Owns one measurement: CPU time of authenticating one request, by scheme, beside the bare cryptographic primitive.

    python -m bench.auth

Every scheme checks one genuine request of its own against the demo's policy, in this process, without grpc or Envoy.
"primitive" is the verification of the signature alone, over the same bytes with the same parsed key. CPU time is this
process's own; each figure is the median of several rounds, so that other work on the machine weighs less.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from paymesh.cli.demo.rsa_signing import load_key, sign_rsa_sha256
from paymesh.cli.demo.signing import (
    AlipayMerchant,
    AlipayProvider,
    AlipayV3Merchant,
    HmacMerchant,
    SignedRequest,
    UnionpayMerchant,
    UnionpayProvider,
    WechatMerchant,
    WechatPlatform,
)
from paymesh.cli.stack.demo_keys import ensure_demo_keys
from paymesh.payments.credentials.authenticate import authenticate
from paymesh.payments.credentials.claim import Asked, Authenticated, Claim
from paymesh.payments.credentials.directory import PolicyKeys
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.policy.callers import CredentialKey, Scheme
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.request import Peer, Request

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo"
ROUNDS = 7
BODY = (
    b'{"order_no":"ORDER-000001","amount":{"total":100,"currency":"CNY"},"product":"card","subject":"'
    + b"x" * 500
    + b'"}'
)
BIZ_CONTENT = {"out_trade_no": "ORDER-000001", "total_amount": "88.88", "subject": "x" * 200}


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    scheme: Scheme
    route: str
    request: Request


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one round of one figure")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        keys, _ = ensure_demo_keys(Path(folder))
        policy = load_policy([DEMO], {"PAYMESH_DEMO_KEYS": str(keys)})
        asyncio.run(_measure(policy, cases(keys), args.seconds))
    return 0


def cases(keys: Path) -> list[Case]:
    """One genuine request a scheme."""
    alipay = AlipayMerchant.from_file("2021000000000001", keys / "alipay_merchant.pem")
    rest = AlipayV3Merchant.from_file("2021000000000001", keys / "alipay_merchant.pem")
    wechat = WechatMerchant.from_file(
        "1900007291", "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB", keys / "wechat_merchant.pem"
    )
    hmac = HmacMerchant.from_file("teahouse-2026", keys / "hmac_card.key")
    by_certificate = UnionpayMerchant.from_files(
        "777290058110048", keys / "unionpay_merchant.pem", keys / "unionpay_merchant.crt"
    )
    by_secret = UnionpayMerchant.from_secure_key("777290058110049", keys / "unionpay_secure.key")
    native, pay, precreate = "/v3/pay/transactions/native", "/v1/payments", "/v3/alipay/trade/precreate"
    gateway, back = "GET,POST /gateway.do", "POST /gateway/api/backTransReq.do"
    order, trade = {"orderId": "20261122220000001"}, "alipay.trade.precreate"
    notified = {"out_trade_no": "ORDER-000001", "total_amount": "88.88", "app_id": "2021000000000001"}
    resource = {"mchid": "1900007291", "out_trade_no": "ORDER-000001"}
    settled = {"merId": "777290058110048", "orderId": "20261122220000001", "queryId": "1", "txnAmt": "100"}
    return [
        Case("hmac", Scheme.HMAC, "payments", _json("POST", pay, hmac.headers("POST", pay, BODY))),
        Case("http_signature, ed25519", Scheme.HTTP_SIGNATURE, "payments", _http_signature(keys, pay)),
        Case("jwt, RS256", Scheme.JWT, "payments", _token(keys, pay)),
        Case("mtls, SPIFFE ID", Scheme.MTLS, "payments", _peer()),
        Case("wechat_v3", Scheme.WECHAT_V3, "wechat-native",
             _json("POST", native, wechat.headers("POST", native, BODY))),
        Case("wechat_v3_notification", Scheme.WECHAT_V3_NOTIFICATION, "wechat-notify",
             _sent("/notify/wechat", *WechatPlatform.from_folder(keys).notification(resource))),
        Case("alipay_v2, form", Scheme.ALIPAY_V2, gateway, _signed(alipay.request(trade, BIZ_CONTENT))),
        Case("alipay_v2, query", Scheme.ALIPAY_V2, gateway,
             _signed(alipay.request(trade, BIZ_CONTENT, place="query", http_method="GET"))),
        Case("alipay_v3", Scheme.ALIPAY_V3, "alipay-v3-precreate",
             _json("POST", precreate, rest.headers("POST", precreate, BODY))),
        Case("alipay_notification", Scheme.ALIPAY_NOTIFICATION, "alipay-notify",
             _sent("/notify/alipay", *AlipayProvider.from_folder(keys).notification(notified))),
        Case("unionpay, method 01", Scheme.UNIONPAY, back, _signed(by_certificate.request(order))),
        Case("unionpay, method 11", Scheme.UNIONPAY, back, _signed(by_secret.request(order))),
        Case("unionpay_notification", Scheme.UNIONPAY_NOTIFICATION, "unionpay-notify",
             _sent("/notify/unionpay", *UnionpayProvider.from_folder(keys).notification(settled))),
    ]  # fmt: skip


async def _measure(policy: Policy, found: list[Case], seconds: float) -> None:
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"cryptography {version('cryptography')}; CPU microseconds, median of {ROUNDS} rounds"
    )
    print(f"{'scheme':<26}{'check':>8}{'primitive':>11}{'the rest':>10}")
    for case in found:
        asked = Asked(case.request, policy.routes_by_name[case.route], policy, PolicyKeys(), int(time.time()))
        scheme = SCHEMES[case.scheme]
        claim = scheme.read(case.request, asked.route)
        assert isinstance(claim, Claim), (case.name, claim)
        key = (await PolicyKeys().keys(policy, claim))[0]
        answer = await authenticate(scheme, asked)
        assert isinstance(answer, Authenticated), (case.name, answer)

        async def check(asked: Asked = asked, case: Case = case) -> None:
            await authenticate(SCHEMES[case.scheme], asked)

        async def primitive(claim: Claim = claim, key: CredentialKey = key) -> None:
            key.verifier.verifies(claim.signature, claim.signed)

        whole, bare = await _cpu_us(check, seconds), await _cpu_us(primitive, seconds)
        print(f"{case.name:<26}{whole:>8.0f}{bare:>11.0f}{whole - bare:>10.0f}", flush=True)


async def _cpu_us(call: Callable[[], Awaitable[None]], seconds: float) -> float:
    """Microseconds of CPU time one call takes."""
    rounds = []
    for _ in range(ROUNDS):
        calls, began, until = 0, time.process_time_ns(), time.perf_counter() + seconds
        while time.perf_counter() < until:
            for _ in range(20):
                await call()
            calls += 20
        rounds.append((time.process_time_ns() - began) / calls / 1000)
    return statistics.median(rounds)


def _request(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
    values = {name.lower(): (value,) for name, value in headers.items()}
    return Request(method, target, values, body, "bench", scheme="https", authority="pay.example")


def _json(method: str, target: str, headers: Mapping[str, str]) -> Request:
    return _request(method, target, {**headers, "Content-Type": "application/json"}, BODY)


def _signed(signed: SignedRequest) -> Request:
    return _request(signed.method, signed.target, signed.headers, signed.body)


def _sent(target: str, headers: Mapping[str, str], body: bytes) -> Request:
    return _request("POST", target, headers, body)


def _peer() -> Request:
    return replace(_json("POST", "/v1/payments", {}), peer=Peer("spiffe://cluster.local/ns/shops/sa/cinema"))


def _token(keys: Path, target: str) -> Request:
    now = int(time.time())
    claims = {"iss": "https://id.example", "aud": "paymesh", "sub": "cinema", "iat": now, "exp": now + 3600}
    parts = [{"alg": "RS256", "typ": "JWT", "kid": "demo-2026"}, claims]
    text = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
    signature = base64.b64decode(sign_rsa_sha256(load_key(keys / "jwt_issuer.pem"), text.encode()))
    return _json("POST", target, {"Authorization": f"Bearer {text}.{_base64url(signature)}"})


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _http_signature(keys: Path, target: str) -> Request:
    covered = f'("@method" "@path" "content-digest");created={int(time.time())};keyid="cinema-2026";nonce="n"'
    headers = {
        "Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(BODY).digest()).decode()}:",
        "Signature-Input": f"sig={covered}",
    }
    unsigned = _json("POST", target, {**headers, "Signature": "sig=:AAAA:"})
    claim = SCHEMES[Scheme.HTTP_SIGNATURE].read(unsigned, None)  # type: ignore[arg-type]  # it reads no route
    assert isinstance(claim, Claim), claim
    key = load_pem_private_key((keys / "http_signature.pem").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    signature = base64.b64encode(key.sign(claim.signed)).decode()
    return _json("POST", target, {**headers, "Signature": f"sig=:{signature}:"})


if __name__ == "__main__":
    raise SystemExit(main())
