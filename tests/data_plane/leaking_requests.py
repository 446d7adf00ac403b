"""Owns two thousand requests that carry planted values: every scheme, good and spoilt in every way that there is."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle, islice, product
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from paymesh.cli.demo.alipay_signing import AlipayMerchant, AlipayProvider, AlipayV3Merchant
from paymesh.cli.demo.providers import APP_ID, MER_ID, SELLER_ID
from paymesh.cli.demo.rsa_signing import load_key, sign_rsa_sha256
from paymesh.cli.demo.signed_request import SignedRequest
from paymesh.cli.demo.signing import HmacMerchant, WechatMerchant, WechatPlatform
from paymesh.cli.demo.unionpay_signing import UnionpayMerchant, UnionpayProvider
from paymesh.cli.demo.world import MCHID, SERIAL_NO
from tests.data_plane.planted import Planted

JSON = {"Content-Type": "application/json"}
HTTP_PARAMETERS = '("@method" "@target-uri" "content-type" "content-digest")'
TOKEN_HEAD = {"alg": "RS256", "typ": "JWT", "kid": "demo-2026"}
"""Every bearer token that is sent begins with it."""


@dataclass(frozen=True)
class Shot:
    """One request; with the merchant's certificate or without; twice, if it is to be a replay."""

    kind: str
    spoilt: str
    """In which way; empty: it is good."""
    request: SignedRequest
    certificate: bool = False
    times: int = 1


@dataclass
class Requests:
    """`authority` is the gateway's HOST:PORT, which RFC 9421 signatures cover."""

    keys: Path
    planted: Planted
    authority: str
    rng: random.Random
    _count: int = 0
    _begun: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = self.keys
        self._hmac = HmacMerchant.from_file("teahouse-2026", keys / "hmac_card.key")
        self._wechat = WechatMerchant.from_file(MCHID, SERIAL_NO, keys / "wechat_merchant.pem")
        self._alipay = AlipayMerchant.from_file(APP_ID, keys / "alipay_merchant.pem")
        self._alipay_v3 = AlipayV3Merchant.from_file(APP_ID, keys / "alipay_merchant.pem")
        files = keys / "unionpay_merchant.pem", keys / "unionpay_merchant.crt"
        self._unionpay = UnionpayMerchant.from_files(MER_ID, *files)
        self._unionpay_11 = UnionpayMerchant.from_secure_key("777290058110049", keys / "unionpay_secure.key")
        edwards = load_pem_private_key((keys / "http_signature.pem").read_bytes(), password=None)
        assert isinstance(edwards, ed25519.Ed25519PrivateKey)
        self._edwards = edwards
        self._issuer = load_key(keys / "jwt_issuer.pem")
        self._platform = WechatPlatform.from_folder(keys)
        self._alipay_platform = AlipayProvider.from_folder(keys)
        self._unionpay_provider = UnionpayProvider.from_folder(keys)

    def payments(self, count: int) -> Iterator[Shot]:
        """Genuine ones, of every scheme by turns."""
        yield from self._good(self._payments(), count)

    def followers(self, count: int) -> Iterator[Shot]:
        """Genuine queries and notifications of orders that `payments` began."""
        yield from self._good(self._followers(), count)

    def spoilt(self, count: int) -> Iterator[Shot]:
        """Of every kind, in every way, in any order; some combinations twice."""
        kinds = {**self._payments(), **self._followers()}
        ways = self._ways()
        combinations = list(product(kinds, ways))
        self.rng.shuffle(combinations)
        for name, way in islice(cycle(combinations), count):
            shot = Shot(name, "", kinds[name](), certificate=name == "mtls")
            yield replace(ways[way](shot), spoilt=way)

    def _good(self, kinds: Mapping[str, Callable[[], SignedRequest]], count: int) -> Iterator[Shot]:
        for name, make in islice(cycle(kinds.items()), count):
            yield Shot(name, "", make(), certificate=name == "mtls")

    # -- values ----------------------------------------------------------------------------------------------------

    def value(self, *kinds: str) -> str:
        return self.planted.one(self.rng, *kinds)

    def safe(self) -> str:
        """A value that may stand in a header."""
        return self.value("pan", "phone", "resident_id", "email", "bank_account", "cvv", "token")

    def order(self, provider: str = "") -> str:
        """A new number; of every tenth, part is somebody's phone."""
        self._count += 1
        number = f"leak{self._count:06}"
        number = f"{number}{self.value('phone')}" if self._count % 10 == 0 else number
        self._begun.setdefault(provider, []).append(number)
        return number

    def begun(self, provider: str) -> str:
        return self.rng.choice(self._begun[provider])

    def person(self) -> dict[str, object]:
        return {
            "name": self.value("name"), "phone": self.value("phone"), "resident_id": self.value("resident_id"),
            "email": self.value("email"), "address": self.value("address"), "bank_account": self.value("bank_account"),
        }  # fmt: skip

    def note(self) -> str:
        pan = self.value("pan")
        spaced = " ".join(pan[at : at + 4] for at in range(0, 16, 4))
        return f"{self.value('name')} 电话{self.value('phone')}，卡 {pan} / {spaced}，{self.value('email')}"

    # -- good requests ---------------------------------------------------------------------------------------------

    def _payments(self) -> Mapping[str, Callable[[], SignedRequest]]:
        return {
            "hmac": self.hmac,
            "wechat_v3": self.wechat,
            "alipay_v2 form": lambda: self.alipay("form", "POST", "utf-8"),
            "alipay_v2 GET": lambda: self.alipay("query", "GET", "utf-8"),
            "alipay_v2 gbk": lambda: self.alipay("split", "POST", "gbk"),
            "alipay_v3": self.alipay_v3,
            "alipay_v3 multipart": self.alipay_v3_multipart,
            "unionpay 01": lambda: self.unionpay(self._unionpay),
            "unionpay 11": lambda: self.unionpay(self._unionpay_11),
            "http_signature": self.http_signature,
            "jwt": self.jwt,
            "mtls": lambda: SignedRequest("POST", "/v1/payments", JSON, self._payment("mtls")),
            "login": self.login,
        }

    def _followers(self) -> Mapping[str, Callable[[], SignedRequest]]:
        return {
            "hmac query": self.hmac_query,
            "wechat_v3 query": self.wechat_query,
            "wechat notification": self.wechat_notification,
            "alipay notification": self.alipay_notification,
            "unionpay notification": self.unionpay_notification,
        }

    def _payment(self, scheme: str = "") -> bytes:
        document = {
            "order_no": self.order(scheme),
            "amount": {"total": self.rng.randint(100, 9999), "currency": "CNY"},
            "product": self.rng.choice(("card", "offline", "alipay_qr", "wechat_qr")),
            "description": self.note(),
            "payer": self.person(),
            "card": {"pan": self.value("pan"), "cvv": self.value("cvv"), "holder": self.value("name")},
            "related_order_no": self.value("phone"),
            "payment_token": self.value("token"),
        }
        return json.dumps(document, ensure_ascii=self.rng.random() < 0.5).encode()

    def hmac(self) -> SignedRequest:
        body, target = self._payment("hmac"), f"/v1/payments?phone={self.value('phone')}&n={quote(self.value('name'))}"
        # The nonce is the caller's own choice, too.
        nonce = f"{self.value('phone')}-{self.rng.randbytes(8).hex()}"
        return SignedRequest(
            "POST", target, {**JSON, **self._hmac.headers("POST", target, body, nonce=nonce), **self.header()}, body
        )

    def header(self) -> dict[str, str]:
        return {
            "X-Customer": self.safe(),
            "User-Agent": f"app/{self.safe()}",
            "Referer": f"https://a.cn/?a={self.safe()}",
        }

    def hmac_query(self) -> SignedRequest:
        order = self.begun("hmac") if self.rng.random() < 0.8 else quote(self.value("phone", "name", "pan"))
        target = f"/v1/payments/{order}?email={quote(self.value('email'))}"
        return SignedRequest("GET", target, self._hmac.headers("GET", target))

    def wechat(self) -> SignedRequest:
        target = "/v3/pay/transactions/native"
        document = {
            "appid": "wx8888888888888888", "mchid": MCHID, "description": self.note(),
            "out_trade_no": self.order("wechat"),
            "notify_url": f"https://m.cn/n?t={self.value('token')}", "attach": self.value("address"),
            "amount": {"total": 100, "currency": "CNY"}, "payer": {"openid": self.value("token")},
        }  # fmt: skip
        body = json.dumps(document, ensure_ascii=False).encode()
        return SignedRequest("POST", target, {**JSON, **self._wechat.headers("POST", target, body)}, body)

    def wechat_query(self) -> SignedRequest:
        order, name = self.begun("wechat"), quote(self.value("name"))
        target = f"/v3/pay/transactions/out-trade-no/{order}?mchid={MCHID}&n={name}"
        return SignedRequest("GET", target, self._wechat.headers("GET", target))

    def _trade(self) -> dict[str, object]:
        return {
            "out_trade_no": self.order("alipay"), "total_amount": "88.88", "subject": self.note(),
            "body": self.value("address"), "buyer_logon_id": self.value("phone", "email"),
            "ext_user_info": self.person(),
        }  # fmt: skip

    def alipay(self, place: str, method: str, charset: str) -> SignedRequest:
        extra = {"app_auth_token": self.value("token"), "notify_url": f"https://m.cn/{self.value('phone')}"}
        return self._alipay.request(
            "alipay.trade.precreate",
            self._trade(),
            place=place,  # type: ignore[arg-type]
            http_method=method,
            charset=charset,
            extra=extra,
        )

    def alipay_v3(self) -> SignedRequest:
        target, body = "/v3/alipay/trade/precreate", json.dumps(self._trade()).encode()
        signed = self._alipay_v3.headers("POST", target, body, app_auth_token=self.value("token"))
        return SignedRequest("POST", target, {**JSON, **signed}, body)

    def alipay_v3_multipart(self) -> SignedRequest:
        files = {f"{self.value('name', 'phone', 'pan')}.png": self.note().encode()}
        data = json.dumps(self._trade(), ensure_ascii=False).encode()
        return self._alipay_v3.multipart("/v3/alipay/trade/precreate", data, files)

    def unionpay(self, merchant: UnionpayMerchant) -> SignedRequest:
        customer = base64.b64encode(f"{{phoneNo={self.value('phone')}&cvn2={self.value('cvv')}}}".encode()).decode()
        provider = "unionpay" if merchant is self._unionpay else "unionpay 11"
        return merchant.request(
            {"orderId": self.order(provider), "accNo": self.value("pan"), "customerInfo": customer,
             "reqReserved": self.note(), "backUrl": f"https://m.cn/?id={self.value('resident_id')}"}
        )  # fmt: skip

    def http_signature(self) -> SignedRequest:
        target, body = f"/v1/payments?account={self.value('bank_account')}", self._payment()
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        nonce = f"{self.value('phone')}-{self.rng.randbytes(8).hex()}"
        head = f'{HTTP_PARAMETERS};created={int(time.time())};keyid="cinema-2026";nonce="{nonce}";tag="paymesh"'
        base = (
            f'"@method": POST\n"@target-uri": https://{self.authority}{target}\n"content-type": application/json\n'
            f'"content-digest": {digest}\n"@signature-params": {head}'
        )
        signature = base64.b64encode(self._edwards.sign(base.encode())).decode()
        headers = {"Content-Digest": digest, "Signature-Input": f"sig1={head}", "Signature": f"sig1=:{signature}:"}
        return SignedRequest("POST", target, {**JSON, **headers}, body)

    def _token(self, **claims: object) -> str:
        now = int(time.time())
        members = {"iss": "https://id.example", "iat": now - 5, "exp": now + 600, "jti": self.order(), **claims}
        parts = [TOKEN_HEAD, members]
        text = ".".join(_urlsafe(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_urlsafe(base64.b64decode(sign_rsa_sha256(self._issuer, text.encode())))}"

    def jwt(self) -> SignedRequest:
        token = self._token(sub="cinema", aud="paymesh", phone_number=self.value("phone"), name=self.value("name"))
        return SignedRequest("POST", "/v1/payments", {**JSON, "Authorization": f"Bearer {token}"}, self._payment())

    def login(self) -> SignedRequest:
        token = self._token(sub=self.value("phone", "email"), aud="bookshop-app", email=self.value("email"))
        return SignedRequest("POST", "/v1/login", {"Authorization": f"Bearer {token}"})

    def wechat_notification(self) -> SignedRequest:
        resource: dict[str, object] = {
            "mchid": MCHID, "appid": "wx8888888888888888", "out_trade_no": self.begun("wechat"),
            "trade_state": "SUCCESS", "transaction_id": self.value("bank_account"),
            "amount": {"total": 100, "currency": "CNY"}, "payer": {"openid": self.value("token")},
            "attach": self.note(),
        }  # fmt: skip
        headers, body = self._platform.notification(resource)
        return SignedRequest("POST", "/notify/wechat", headers, body)

    def alipay_notification(self) -> SignedRequest:
        fields = {
            "app_id": APP_ID, "seller_id": SELLER_ID, "out_trade_no": self.begun("alipay"), "total_amount": "88.88",
            "buyer_logon_id": self.value("phone", "email"), "subject": self.note(),
            "trade_no": self.value("bank_account"),
        }  # fmt: skip
        headers, body = self._alipay_platform.notification(fields, charset=self.rng.choice(("utf-8", "gbk")))
        return SignedRequest("POST", "/notify/alipay", headers, body)

    def unionpay_notification(self) -> SignedRequest:
        fields = {"merId": MER_ID, "orderId": self.begun("unionpay"), "txnAmt": "100",
                  "accNo": self.value("pan"), "reqReserved": self.note()}  # fmt: skip
        headers, body = self._unionpay_provider.notification(fields)
        return SignedRequest("POST", "/notify/unionpay", headers, body)

    # -- spoilt ones -----------------------------------------------------------------------------------------------

    def _ways(self) -> Mapping[str, Callable[[Shot], Shot]]:
        return {
            "another body": lambda s: _body(s, s.request.body.replace(b"1", b"2") or b"x"),
            "another amount": lambda _: self._saying({"amount": {"total": self.safe()}}),
            "another product": lambda _: self._saying({"product": self.value()}),
            "another currency": lambda _: self._saying({"amount": {"total": 1, "currency": self.safe()}}),
            "order is a phone": lambda _: self._saying({"order_no": self.value("phone")}),
            "order is a name": lambda _: self._saying({"order_no": self.value("name", "address")}),
            "keys twice": self._keys_twice,
            "keys are values": lambda _: self._saying({self.value(): {self.value(): self.value()}}),
            "no JSON": self._broken,
            "no UTF-8": lambda s: self._hmac_signed(self.note().encode("gbk")),
            "too large": lambda s: _body(s, (self.note() * 4000).encode()),
            "too deep": lambda s: self._hmac_signed(b'{"a":' * 200 + json.dumps(self.value()).encode() + b"}" * 200),
            "gzip": lambda s: _headers(_body(s, gzip.compress(s.request.body)), {"Content-Encoding": "gzip"}),
            "content-encoding": lambda s: _headers(s, {"Content-Encoding": self.safe()}),
            "content-type": lambda s: _headers(s, {"Content-Type": f"application/{self.safe()}"}),
            "gRPC": lambda s: _headers(s, {"Content-Type": "application/grpc"}),
            "bad form": lambda s: _body(s, f"a=%zz&phone={self.value('phone')}&phone={self.value('phone')}".encode()),
            "replay": lambda s: replace(s, times=2),
            "unknown path": lambda s: self._unknown_path(),
            "unknown method": lambda s: replace(s, request=replace(s.request, method="DELETE")),
            "more query": lambda s: _target(s, f"{s.request.target}{'?&'['?' in s.request.target]}q={self._q()}"),
            "bad path": lambda s: _target(s, f"/v1/payments/%2e%2e/{self._q()}/%00?{self._q()}"),
            "forged x-pay": lambda s: _headers(s, {"X-Pay-Merchant": self.safe(), "X-Pay-Reason": self.safe()}),
            "forged x-envoy": lambda s: _headers(
                s, {"X-Envoy-Original-Path": self._q(), "X-Envoy-Decorator-Operation": self.safe(),
                    "X-Envoy-Downstream-Service-Cluster": self.safe()}
            ),
            "request id": lambda s: _headers(s, {"X-Request-Id": self.safe(), "X-Client-Trace-Id": self.safe()}),
            "tracestate": lambda s: _headers(
                s, {"Traceparent": f"00-{self.rng.randbytes(16).hex()}-{self.rng.randbytes(8).hex()}-01",
                    "Tracestate": f"a={self.value('phone')}", "Baggage": f"user={self.value('phone')}"}
            ),
            "bad traceparent": lambda s: _headers(s, {"Traceparent": self.safe(), "B3": self.safe()}),
            "forwarded": lambda s: _headers(
                s, {"X-Forwarded-For": self.value("phone"), "Forwarded": f"for={self.value('phone')}",
                    "Via": self.safe(), "X-Forwarded-Client-Cert": f"URI=spiffe://{self.safe()}",
                    "X-Forwarded-Host": self.safe()}
            ),
            "cookie": lambda s: _headers(s, {"Cookie": f"session={self.value('token')}; phone={self.value('phone')}"}),
            "idempotency key": lambda s: _headers(s, {"Idempotency-Key": f'"{self.safe()}"'}),
            "host": lambda s: _headers(s, {"Host": self.value("phone", "pan", "bank_account")}),
            "underscores": lambda s: _headers(s, {"x_phone": self.value("phone")}),
            "another key name": self._key_name,
            "no credential": lambda s: replace(s, request=replace(s.request, headers=JSON)),
            "Basic": lambda s: _headers(
                s, {"Authorization": f"Basic {base64.b64encode(f'{self.safe()}:{self.safe()}'.encode()).decode()}"}
            ),
            "odd Authorization": lambda s: _headers(s, {"Authorization": f"{self.safe()} {self.safe()}"}),
            "forged token": lambda s: _headers(s, {"Authorization": f"Bearer {self._token(sub=self.safe())}x"}),
            "token of nobody": lambda s: _headers(
                s, {"Authorization": f"Bearer {self._token(sub=self.safe(), aud='paymesh')}"}
            ),
            "token of another issuer": lambda s: _headers(
                s, {"Authorization": f"Bearer {self._token(iss=f'https://{self.safe()}', sub='a', aud='paymesh')}"}
            ),
            "no base64": lambda s: _headers(s, {"Authorization": f"Bearer {self.safe()}.{self.safe()}.{self.safe()}"}),
        }  # fmt: skip

    def _q(self) -> str:
        return quote(self.value(), safe="", encoding=self.rng.choice(("utf-8", "gbk")))

    def _hmac_signed(self, body: bytes) -> Shot:
        signed = self._hmac.headers("POST", "/v1/payments", body)
        return Shot("hmac", "", SignedRequest("POST", "/v1/payments", {**JSON, **signed}, body))

    def _saying(self, change: Mapping[str, object]) -> Shot:
        """A generic merchant's payment that says something else, and is signed as it is."""
        document = {**json.loads(self._payment()), **change}
        return self._hmac_signed(json.dumps(document, ensure_ascii=False).encode())

    def _keys_twice(self, _: Shot) -> Shot:
        value = self.value("phone")
        body = f'{{"{value}": 1, "{value}": 2, "order_no": "{self.value("pan")}", "order_no": "b"}}'
        return self._hmac_signed(body.encode())

    def _broken(self, _: Shot) -> Shot:
        return self._hmac_signed(self._payment()[:-1] + f", {self.value()}: NaN".encode())

    def _unknown_path(self) -> Shot:
        path = f"/v9/{self._q()}/{self._q()}?phone={self.value('phone')}&name={self._q()}"
        return Shot("nobody", "", SignedRequest("POST", path, {**JSON, **self.header()}, self._payment()))

    def _key_name(self, shot: Shot) -> Shot:
        """Names of keys, merchants and applications that are somebody's data."""
        value, request = self.value("phone", "pan", "email", "token"), shot.request
        changed = {
            name: text.replace("teahouse-2026", value).replace("cinema-2026", value).replace(MCHID, value)
            .replace(SERIAL_NO, value).replace(APP_ID, value).replace("PUB_KEY_ID_0000000000000000001", value)
            for name, text in request.headers.items()
        }  # fmt: skip
        raw = value.encode()
        body = request.body.replace(APP_ID.encode(), raw).replace(MER_ID.encode(), raw).replace(MCHID.encode(), raw)
        target = request.target.replace(APP_ID, quote(value))
        return replace(shot, request=SignedRequest(request.method, target, changed, body))


def _urlsafe(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _body(shot: Shot, body: bytes) -> Shot:
    return replace(shot, request=replace(shot.request, body=body))


def _headers(shot: Shot, more: Mapping[str, str]) -> Shot:
    kept = {name: value for name, value in shot.request.headers.items() if name.lower() not in map(str.lower, more)}
    return replace(shot, request=replace(shot.request, headers={**kept, **more}))


def _target(shot: Shot, target: str) -> Shot:
    return replace(shot, request=replace(shot.request, target=target))
