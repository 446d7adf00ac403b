"""One genuine message of every kind, made by the demo's signers, which share nothing with the gateway's verification.

Each kind says where its texts stand, which other names its protocol knows, and what the message means.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import cast
from urllib.parse import quote

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SM3, Hash

from paymesh.cli.demo.alipay_signing import AlipayMerchant, AlipayProvider, AlipayV3Merchant, Place, cert_sn
from paymesh.cli.demo.rsa_signing import sign_rsa_sha256
from paymesh.cli.demo.signed_request import SignedRequest
from paymesh.cli.demo.signing import HmacMerchant, WechatMerchant, WechatPlatform
from paymesh.cli.demo.unionpay_signing import UnionpayMerchant, UnionpayProvider, sorted_text, unionpay_time
from paymesh.payments.credentials.verifiers import supports_sm3
from paymesh.payments.request import Peer, Request
from tests.unit.payments.credentials import meanings
from tests.unit.payments.credentials.keyring import NOW_S, Keyring, Party
from tests.unit.payments.credentials.mutations import Mutant, Slot, exchanged, field_of, header, parameter

TEXT = "测试 100%+商品&A=1~*"
"""In every alphabet that an encoder treats in its own way."""
SERIAL = "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB"
PLATFORM_SERIAL = "PUB_KEY_ID_0000000000000000001"
SPIFFE = "spiffe://cluster.local/ns/shops/sa/"
FORM = "application/x-www-form-urlencoded"

Make = Callable[[Keyring, Party, str], Request]
"""A message about an order that names `merchant` as its sender and is signed by this party."""
More = Callable[[Keyring, Request], Iterator[Mutant]]


@dataclass(frozen=True)
class Kind:
    route: str
    make: Make
    meaning: Callable[[Request], meanings.Meaning]
    slots: Sequence[Slot] = ()
    signature: Slot | None = None
    form: bool = False
    decides: frozenset[str] = frozenset()
    """Of a form's parameters: what must be the same in any message that passes."""
    fields: bool = False
    """The credential is a list of fields in `authorization`."""
    others: Mapping[str, Sequence[str]] | None = None
    """What else may stand in a slot: another merchant's name, another algorithm."""
    more: More | None = None
    mutants: int = 0
    """How many there must be at least: fewer, and the framework has gone hollow."""
    pass_as_same: int = 0
    """How many must at least be accepted as another spelling of the same."""


def at(sent: SignedRequest) -> Request:
    return plain(sent.method, sent.target, sent.headers, sent.body)


def plain(method: str, target: str, headers: Mapping[str, str], body: bytes = b"", peer: Peer | None = None) -> Request:
    found = {name.lower(): (value,) for name, value in headers.items()}
    return Request(
        method, target, found, body, "id-1", scheme="https", authority="pay.example.com", client_address="", peer=peer
    )


# -- WeChat Pay --------------------------------------------------------------------------------------------------------


def wechat_v3(keyring: Keyring, signer: Party, order: str) -> Request:
    target = f"/wechat/v3/pay/transactions/native?note=a%20b&order={order}"
    body = json.dumps({"out_trade_no": order, "description": TEXT, "amount": {"total": 100}}, indent=1).encode()
    signed = WechatMerchant("1900007291", SERIAL, signer.rsa).headers(
        "POST", target, body, at_s=NOW_S, nonce=f"NONCE{order}"
    )
    return plain("POST", target, {**signed, "Content-Type": "application/json"}, body)


def wechat_v3_query(keyring: Keyring, signer: Party, order: str) -> Request:
    target = f"/wechat/v3/pay/transactions/out-trade-no/{order}?mchid=1900007291"
    merchant = WechatMerchant("1900007291", SERIAL, signer.rsa)
    return plain("GET", target, merchant.headers("GET", target, at_s=NOW_S, nonce=f"NONCE{order}"))


def wechat_v3_shifts(keyring: Keyring, request: Request) -> Iterator[Mutant]:
    """The lines of the text to sign, cut elsewhere."""
    nonce = field_of("nonce_str")
    first, _, rest = request.body.partition(b"\n")
    moved = nonce.write(request, [f"{nonce.read(request)}\n{first.decode()}"])
    yield Mutant("the body's first line in the nonce", replace(moved, body=rest))
    cut = f"{request.target[:12]}\n{request.target[12:]}"
    yield Mutant("a line break in the target", replace(request, target=cut))
    yield Mutant("the target in the method", replace(request, method=f"{request.method}\n{request.target}", target=""))
    with_line = replace(request, body=b"x\n" + request.body)
    yield Mutant("a line more in the body", nonce.write(with_line, [nonce.read(request)]))


def wechat_v3_notification(keyring: Keyring, signer: Party, order: str) -> Request:
    key = keyring.platform if signer is keyring.merchant else signer.rsa
    resource = {"mchid": "1900007291", "out_trade_no": order, "trade_state": "SUCCESS", "note": TEXT}
    sealed = AESGCM(keyring.apiv3_key).encrypt(b"000000000000", json.dumps(resource).encode(), b"transaction")
    body = json.dumps(
        {
            "id": f"EV-{order}",
            "resource_type": "encrypt-resource",
            "resource": {
                "algorithm": "AEAD_AES_256_GCM",
                "ciphertext": base64.b64encode(sealed).decode(),
                "associated_data": "transaction",
                "nonce": "000000000000",
            },
        },
        indent=1,
    ).encode()
    signed = WechatPlatform(PLATFORM_SERIAL, key, keyring.apiv3_key).sign(body, at_s=NOW_S)
    return plain("POST", "/notify/wechat", signed, body)


def wechat_v3_notification_shifts(keyring: Keyring, request: Request) -> Iterator[Mutant]:
    nonce, stamp = header("wechatpay-nonce"), header("wechatpay-timestamp")
    for length in (1, 5):
        first, rest = (b"\n".join(part) for part in halves(request.body.split(b"\n"), length))
        moved = nonce.write(request, [f"{nonce.read(request)}\n{first.decode()}"])
        yield Mutant(f"{length} of the body's lines in the nonce", replace(moved, body=rest))
    shifted = stamp.write(request, [f"{stamp.read(request)}\n{nonce.read(request)}"])
    yield Mutant("the nonce in the timestamp", nonce.write(shifted, [""]))
    yield Mutant("the nonce in the body", replace(nonce.write(request, [""]), body=request.body))


def halves(lines: list[bytes], at: int) -> tuple[list[bytes], list[bytes]]:
    return lines[:at], lines[at:]


# -- Alipay ------------------------------------------------------------------------------------------------------------


def alipay_v2(method: str, place: Place, charset: str, certified: bool) -> Make:
    def make(keyring: Keyring, signer: Party, order: str) -> Request:
        serial = cert_sn(keyring.merchant.certified.pem.encode()) if certified else None
        roots = "ab" * 16 if certified else None
        merchant = AlipayMerchant(f"202100000000000{2 if certified else 1}", signer.rsa, serial, roots)
        return at(
            merchant.request(
                "alipay.trade.precreate",
                {"out_trade_no": order, "total_amount": "88.88", "subject": TEXT},
                place=place,
                http_method=method,
                at_s=NOW_S,
                charset=charset,
                extra={
                    "notify_url": "https://m.example.com/notify?a=1&b=2",
                    "return_url": "https://m.example.com/return?a=1&timestamp=1",
                    "app_auth_token": "202611BB0123456789",
                },
            )
        )

    return make


def alipay_v3(
    *, method: str = "POST", token: str | None = None, certified: bool = False, expires: int | None = None
) -> Make:
    def make(keyring: Keyring, signer: Party, order: str) -> Request:
        serial = cert_sn(keyring.merchant.certified.pem.encode()) if certified else None
        merchant = AlipayV3Merchant(f"202100000000000{2 if certified else 1}", signer.rsa, serial, None)
        target = "/alipay_v3/trade/precreate" if method == "POST" else f"/alipay_v3/trade/query?order={order}&n=a%20b"
        body = json.dumps({"out_trade_no": order, "subject": TEXT}).encode() if method == "POST" else b""
        signed = merchant.headers(
            method,
            target,
            body,
            at_ms=NOW_S * 1000,
            nonce=f"nonce-{order}",
            app_auth_token=token,
            expired_seconds=expires,
        )
        return plain(method, target, {**signed, **({"Content-Type": "application/json"} if body else {})}, body)

    return make


def alipay_v3_multipart(keyring: Keyring, signer: Party, order: str) -> Request:
    return alipay_v3_upload(signer, order, json.dumps({"out_trade_no": order, "image_name": TEXT}).encode())


def alipay_v3_upload(signer: Party, order: str, data: bytes) -> Request:
    """A JSON part, which is signed, and a file, which is not."""
    target, boundary = "/alipay_v3/image/upload", "a0b1c2d3e4f5"
    signed = AlipayV3Merchant("2021000000000001", signer.rsa).headers(
        "POST", target, data, at_ms=NOW_S * 1000, nonce=f"nonce-{order}"
    )
    parts = (
        b'Content-Disposition: form-data; name="data"\r\nContent-Type: application/json\r\n\r\n' + data,
        b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n',
    )
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    content_type = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return plain("POST", target, {**signed, **content_type}, body + f"--{boundary}--\r\n".encode())


def alipay_v3_shifts(keyring: Keyring, request: Request) -> Iterator[Mutant]:
    """The token stands in the text to sign after the body, with nothing but a line break between them."""
    token = header("alipay-app-auth-token")
    if "alipay-app-auth-token" in request.headers:
        swallowed = request.body + b"\n" + token.read(request).encode()
        yield Mutant("the token at the body's end", replace(token.write(request, []), body=swallowed))
        longer = f"{token.read(request)}\nx"
        yield Mutant("a line more in the token", token.write(request, [longer]))
        yield Mutant("no body", replace(token.write(request, [f"\n{token.read(request)}"]), body=b""))
    else:
        yield Mutant("a token of somebody", token.write(request, ["202611BB0123456789"]))
        yield Mutant("an empty token", token.write(request, [""]))
    yield Mutant("the body as the token", replace(token.write(request, [request.body.decode("latin-1")]), body=b""))
    slot = header("authorization")
    value = slot.read(request)
    yield Mutant("sign= in capitals", slot.write(request, [value.replace(",sign=", ",SIGN=")]))
    yield Mutant("two signs", slot.write(request, [f"{value},sign={value.rpartition(',sign=')[2]}"]))


def alipay_v3_parts(keyring: Keyring, request: Request) -> Iterator[Mutant]:
    """Everything that two readers of multipart could take differently."""
    yield from alipay_v3_shifts(keyring, request)
    boundary = b"--a0b1c2d3e4f5"
    first, evil = boundary + b"\r\n", b'Content-Disposition: form-data; name="data"\r\n\r\n{"out_trade_no":"evil"}\r\n'
    body = request.body
    _, data, rest = body.split(first)
    for label, changed in (
        ("data twice, the other first", first + evil + body),
        ("data twice, the other last", first + data + first + evil + first + rest),
        ("a preamble", b"preamble\r\n" + body),
        ("an epilogue", body + b"epilogue"),
        ("parts in another order", first + rest.partition(boundary)[0] + first + data + boundary + b"--\r\n"),
        ("the file alone changed", body.replace(b"\x89PNG", b"\x89GIF")),
        ("the file gone", first + data + boundary + b"--\r\n"),
        ("no last line break", body.removesuffix(b"\r\n")),
        ("bare line feeds", body.replace(b"\r\n", b"\n")),
        ("the last boundary gone", body.removesuffix(boundary + b"--\r\n")),
        ("a boundary with white space after it", body.replace(boundary + b"\r\n", boundary + b" \r\n", 1)),
        ("a boundary inside data", body.replace(b"out_trade_no", b"out\r\n" + boundary + b"x_trade_no")),
        ("a boundary after a bare line feed", body.replace(b"\x89PNG", b"\n" + boundary + b"\n" + evil)),
        ("name without quotes", body.replace(b'name="data"', b"name=data")),
        ("name in capitals", body.replace(b'name="data"', b'name="DATA"')),
        ("name* beside name", body.replace(b'name="data"', b"name=\"data\"; name*=utf-8''other")),
        ("name twice", body.replace(b'name="data"', b'name="other"; name="data"')),
        ("filename beside name", body.replace(b'name="data"', b'name="data"; filename="name=data"')),
        ("a filename that looks like a name", body.replace(b'filename="a.png"', b'filename="x; name=data"')),
        ("base64", body.replace(b"Content-Type: app", b"Content-Transfer-Encoding: base64\r\nContent-Type: app")),
        ("8bit", body.replace(b"Content-Type: app", b"Content-Transfer-Encoding: 8bit\r\nContent-Type: app")),
        ("a folded header", body.replace(b"form-data; name", b"form-data;\r\n name", 1)),
        ("two dispositions", body.replace(b"Content-Type: app", b'Content-Disposition: form-data; name="x"\r\nA: app')),
        ("header names in capitals", body.replace(b"Content-Disposition", b"CONTENT-DISPOSITION")),
        ("no headers", body.replace(b'Content-Disposition: form-data; name="data"', b"")),
    ):
        yield Mutant(f"multipart: {label}", replace(request, body=changed))
    slot = header("content-type")
    for label, value in (
        ("quoted boundary", 'multipart/form-data; boundary="a0b1c2d3e4f5"'),
        ("two boundaries", "multipart/form-data; boundary=a0b1c2d3e4f5; boundary=x"),
        ("another boundary", "multipart/form-data; boundary=a0b1c2d3e4f"),
        ("no boundary", "multipart/form-data"),
        ("a charset", "multipart/form-data; charset=utf-8; boundary=a0b1c2d3e4f5"),
        ("another multipart", "multipart/mixed; boundary=a0b1c2d3e4f5"),
        ("a form", FORM),
        ("in capitals", "MULTIPART/FORM-DATA; BOUNDARY=a0b1c2d3e4f5"),
    ):
        yield Mutant(f"multipart: {label}", slot.write(request, [value]))


def alipay_notification(charset: str) -> Make:
    def make(keyring: Keyring, signer: Party, order: str) -> Request:
        provider = AlipayProvider(keyring.platform if signer is keyring.merchant else signer.rsa)
        fields = {
            "app_id": "2021000000000001",
            "seller_id": "2088100000000001",
            "out_trade_no": order,
            "total_amount": "88.88",
            "subject": TEXT,
            "notify_id": f"2027{order}",
            "fund_bill_list": '[{"amount":"88.88","fundChannel":"ALIPAYACCOUNT"}]',
            "body": "",
        }
        return plain("POST", "/notify/alipay", *provider.notification(fields, at_s=NOW_S, charset=charset))

    return make


# -- UnionPay ----------------------------------------------------------------------------------------------------------


def unionpay(method: str) -> Make:
    def make(keyring: Keyring, signer: Party, order: str) -> Request:
        fields = {
            "orderId": order,
            "backUrl": "https://m.example.com/back?x=1&y=2",
            "payTimeout": "20270115170000",
            "orderDesc": TEXT,
            "reqReserved": "",
        }
        if method == "01":
            certificate = str(keyring.merchant.certified.certificate.serial_number)
            merchant = UnionpayMerchant("777290058110048", signer.rsa, certificate)
        else:
            merchant = UnionpayMerchant("777290058110049", secure_key=signer.secret)
        if method != "12":
            return at(merchant.request(fields, path="/unionpay/backTransReq.do", at_s=NOW_S))
        filled = merchant.form({**fields, "signMethod": "12"}, at_s=NOW_S)
        filled["signature"] = sm3(f"{sorted_text(filled)}&{sm3(signer.secret)}".encode())
        body = "&".join(f"{name}={quote(value, safe='')}" for name, value in filled.items()).encode()
        return plain("POST", "/unionpay/backTransReq.do", {"Content-Type": FORM}, body)

    return make


def sm3(data: bytes | str) -> str:
    digest = Hash(SM3())
    digest.update(data if isinstance(data, bytes) else data.encode())
    return digest.finalize().hex()


def unionpay_notification(keyring: Keyring, signer: Party, order: str) -> Request:
    issued = keyring.provider if signer is keyring.merchant else signer.certified
    provider = UnionpayProvider(issued.key, keyring.provider.pem)
    fields = {"merId": "777290058110048", "orderId": order, "txnAmt": "100", "txnTime": unionpay_time(NOW_S)}
    signed = provider.notification({**fields, "queryId": f"2027{order}", "respMsg": TEXT})
    return plain("POST", "/notify/unionpay", *signed)


def unionpay_certificates(keyring: Keyring, request: Request) -> Iterator[Mutant]:
    slot = parameter("signPubKeyCert")
    for label, issued in (
        ("a merchant's of the same authority", keyring.merchant.certified),
        ("the authority's own", keyring.authority),
    ):
        yield Mutant(f"certificate: {label}", slot.write(request, [issued.pem]))
    yield Mutant("certificate: two", slot.write(request, [keyring.provider.pem + keyring.merchant.certified.pem]))


# -- the gateway's own, RFC 9421, tokens, certificates -----------------------------------------------------------------


def hmac(keyring: Keyring, signer: Party, order: str) -> Request:
    target, body = f"/hmac/payments?trace={order}&note=a%20b", json.dumps({"order_no": order, "note": TEXT}).encode()
    merchant = HmacMerchant("bookshop-2026", signer.secret)
    signed = merchant.headers("POST", target, body, at_s=NOW_S, nonce=f"nonce-{order}")
    return plain("POST", target, {**signed, "Content-Type": "application/json"}, body)


def hmac_shifts(keyring: Keyring, request: Request) -> Iterator[Mutant]:
    nonce, stamp = header("paymesh-nonce"), header("paymesh-timestamp")
    digest = hashlib.sha256(request.body).hexdigest()
    empty = hashlib.sha256(b"").hexdigest()
    yield Mutant("the digest in the nonce", nonce.write(request, [f"{nonce.read(request)}\n{digest}"]))
    yield Mutant("another digest after", replace(nonce.write(request, [f"{nonce.read(request)}\n{empty}"]), body=b""))
    split = stamp.write(request, [f"{stamp.read(request)}\n{nonce.read(request)}"])
    yield Mutant("the nonce in the timestamp", nonce.write(split, [""]))
    path, _, query = request.target.partition("?")
    yield Mutant("a line break in the target", replace(request, target=f"{path}\n{query}"))
    yield Mutant("the target in the method", replace(request, method=f"{request.method}\n{request.target}", target=""))


HTTP_PARAMETERS = '("@method" "@target-uri" "content-type" "content-digest")'


def http_signature(keyring: Keyring, signer: Party, order: str) -> Request:
    target, body = f"/http_signature/payments?note=a%20b&order={order}", json.dumps({"order_no": order}).encode()
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
    parameters = f'{HTTP_PARAMETERS};created={NOW_S};keyid="bookshop-2026";nonce="nonce-{order}";tag="paymesh"'
    base = (
        f'"@method": POST\n"@target-uri": https://pay.example.com{target}\n"content-type": application/json\n'
        f'"content-digest": {digest}\n"@signature-params": {parameters}'
    )
    signature = base64.b64encode(signer.edwards.sign(base.encode())).decode()
    headers = {
        "Content-Type": "application/json",
        "Content-Digest": digest,
        "Signature-Input": f"sig1={parameters}",
        "Signature": f"sig1=:{signature}:",
    }
    return plain("POST", target, headers, body)


def _http_signature_slot() -> Slot:
    place = header("signature")
    return Slot(
        "signature's bytes",
        lambda request: place.read(request).removeprefix("sig1=:").removesuffix(":"),
        lambda request, values: place.write(request, [f"sig1=:{value}:" for value in values]),
    )


def jwt(keyring: Keyring, signer: Party, order: str) -> Request:
    key = keyring.platform if signer is keyring.merchant else signer.rsa
    claims = {"iss": "https://id.example", "sub": "bookshop", "aud": "paymesh", "iat": NOW_S - 9, "exp": NOW_S + 600}
    token = f"{segment({'alg': 'RS256', 'typ': 'JWT', 'kid': 'accounts-1'})}.{segment({**claims, 'jti': order})}"
    signature = urlsafe(base64.b64decode(sign_rsa_sha256(key, token.encode())))
    body = json.dumps({"order_no": order}).encode()
    return plain("POST", "/jwt/payments", {"Authorization": f"Bearer {token}.{signature}"}, body)


def token(keyring: Keyring, head: Mapping[str, object], claims: Mapping[str, object]) -> Request:
    """A request with a token that the issuer signed, whatever it says."""
    text = f"{segment(head)}.{segment(claims)}"
    signature = urlsafe(base64.b64decode(sign_rsa_sha256(keyring.platform, text.encode())))
    return plain("GET", "/jwt/payments", {"Authorization": f"Bearer {text}.{signature}"})


def segment(members: Mapping[str, object]) -> str:
    return urlsafe(json.dumps(members).encode())


def urlsafe(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _token_slot(number: int) -> Slot:
    """One of a token's three parts."""
    place = header("authorization")

    def write(request: Request, values: Sequence[str]) -> Request:
        kind, _, token = place.read(request).partition(" ")
        parts = token.split(".")
        return place.write(request, [f"{kind} {'.'.join([*parts[:number], *values, *parts[number + 1 :]])}"])

    def read(request: Request) -> str:
        return place.read(request).partition(" ")[2].split(".")[number]

    return Slot(("token's header", "token's payload", "token's signature")[number], read, write)


def jwt_forgeries(keyring: Keyring, request: Request) -> Iterator[Mutant]:
    slot = header("authorization")
    head, payload, signature = slot.read(request).partition(" ")[2].split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    public = keyring.platform.public_key()
    numbers = public.public_numbers()
    evil = segment({"iss": "https://id.example", "sub": "other", "aud": "paymesh", "iat": NOW_S, "exp": NOW_S + 9})
    forged = sign_rsa_sha256(keyring.stranger.rsa, f"{head}.{evil}".encode())
    tokens = {
        "padded": f"{head}.{payload}.{signature}==",
        "the other alphabet": f"{head}.{payload}.{base64.b64encode(raw).decode().rstrip('=')}",
        "spare bits in the last digit": f"{head}.{payload}.{signature[:-1]}{chr(ord(signature[-1]) ^ 1)}",
        "of another subject": f"{head}.{evil}.{signature}",
        "signed by a stranger": f"{head}.{evil}.{urlsafe(base64.b64decode(forged))}",
        "four parts": f"{head}.{payload}.{signature}.",
        "two parts": f"{head}.{payload}",
        "no signature": f"{head}.{payload}.",
        "only dots": "..",
        "another issuer": f"{head}.{segment({'iss': 'https://evil.example', 'sub': 'bookshop'})}.{signature}",
    }
    for name in ("none", "None", "HS256", "RS512", "PS256", "ES256", "EdDSA", "rs256"):
        tokens[f"alg {name}"] = f"{segment({'alg': name, 'kid': 'accounts-1'})}.{payload}.{signature}"
        tokens[f"alg {name} without signature"] = f"{segment({'alg': name})}.{payload}."
    for secret in (str(numbers.n).encode(), hashlib.sha256(b"").digest(), keyring.merchant.secret):
        text = f"{segment({'alg': 'HS256', 'kid': 'accounts-1'})}.{payload}"
        mac = hashlib.sha256(secret + text.encode()).digest()
        tokens[f"HS256 by {len(secret)} public bytes"] = f"{text}.{urlsafe(mac)}"
    for member in ("jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"):
        changed = {"alg": "RS256", "kid": "accounts-1", member: ["x"] if member in ("crit", "x5c") else "x"}
        tokens[f"with {member}"] = f"{segment(changed)}.{payload}.{signature}"
    for label, token in tokens.items():
        yield Mutant(f"token {label}", slot.write(request, [f"Bearer {token}"]))
    for kind in ("bearer", "BEARER", "Basic", "Token", "Bearer Bearer"):
        yield Mutant(f"type {kind}", slot.write(request, [f"{kind} {head}.{payload}.{signature}"]))


def mtls_by_name(keyring: Keyring, signer: Party, order: str) -> Request:
    name = next(one for one in ("merchant", "other", "stranger") if getattr(keyring, one) is signer)
    principal = SPIFFE + {"merchant": "bookshop"}.get(name, "nobody")
    peer = Peer(principal, keyring.stranger.certified.as_envoy_gives_it)
    return plain("GET", f"/mtls/payments/{order}", {"x-forwarded-client-cert": f"URI={SPIFFE}other"}, peer=peer)


def mtls_pinned(keyring: Keyring, signer: Party, order: str) -> Request:
    return plain("GET", f"/mtls/{order}", {}, peer=Peer("CN=bookshop", signer.certified.as_envoy_gives_it))


def _peer_slot(name: str) -> Slot:
    def read(request: Request) -> str:
        return cast(str, getattr(request.peer, name))

    def write(request: Request, values: Sequence[str]) -> Request:
        assert request.peer is not None
        return replace(request, peer=replace(request.peer, **{name: ",".join(values)}))

    return Slot(f"peer's {name}", read, write)


def mtls_claims(keyring: Keyring, request: Request) -> Iterator[Mutant]:
    """What a client could write or Envoy could leave out."""
    yield Mutant("no certificate", replace(request, peer=None))
    pinned = Peer(f"sha256:{keyring.merchant.certified.sha256}", keyring.stranger.certified.as_envoy_gives_it)
    yield Mutant("a certificate that is called another's fingerprint", replace(request, peer=pinned))
    for value in (f"URI={SPIFFE}other", f"By=x;URI={SPIFFE}other,URI={SPIFFE}bookshop", ""):
        yield Mutant(f"XFCC {value[:9]!r}", header("x-forwarded-client-cert").write(request, [value]))
    for name in ("x-client-cert", "ssl-client-s-dn", "x-ssl-cert", "authorization"):
        yield Mutant(f"header {name}", header(name).write(request, [f"CN={SPIFFE}other"]))


# -- all of them -------------------------------------------------------------------------------------------------------

AUTHORIZATION = header("authorization")
CONTENT_TYPE = header("content-type")
WECHAT_FIELDS = tuple(field_of(name) for name in ("mchid", "nonce_str", "timestamp", "serial_no", "signature"))
WECHAT_OTHERS = {
    "header authorization, mchid": ["1900007292"],
    "header authorization, serial_no": [PLATFORM_SERIAL, "0" + SERIAL, SERIAL.lower(), "1"],
    "header authorization, timestamp": [str(NOW_S + 1), str(NOW_S * 1000), f"0{NOW_S}", hex(NOW_S), f"{NOW_S}.0"],
}
NOTIFICATION_HEADERS = tuple(
    header(f"wechatpay-{name}") for name in ("timestamp", "nonce", "signature", "serial", "signature-type")
)
HMAC_HEADERS = tuple(header(f"paymesh-{name}") for name in ("key", "timestamp", "nonce", "signature"))
CONTENT_TYPES = [
    "text/plain",
    "application/json",
    f"{FORM};charset=gbk",
    f"{FORM}; charset=x",
    FORM.upper(),
    f" {FORM} ",
]
ALIPAY_OTHERS = {
    "parameter app_id": ["2021000000000003", "2021000000000002", "2021000000000001"],
    "parameter sign_type": ["RSA", "SM2", "rsa2", "RSA2 ", "HMAC", "none"],
    "parameter charset": ["gbk", "utf-8", "UTF-8", "GB2312", "gb18030", "iso-8859-1", "utf-16", "x", "ascii"],
}
UNIONPAY_OTHERS = {
    "parameter merId": ["777290058110050", "777290058110051", "777290058110048", "777290058110049"],
    "parameter signMethod": ["01", "02", "11", "12", "1", "011", "SM3"],
    "parameter version": ["5.0.0", "5.1", "5.1.0 ", "6.0.0", "1"],
    "parameter encoding": ["gbk", "utf-8", "GB2312", "iso-8859-1", "x"],
    "parameter txnType": ["00", "04", "31"],
}


def _others(*found: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    return {name: values for one in (*found, {"header content-type": CONTENT_TYPES}) for name, values in one.items()}


def _parameters(*names: str) -> tuple[Slot, ...]:
    return tuple(parameter(name) for name in names)


def _wechat(make: Make, *, mutants: int, pass_as_same: int) -> Kind:
    return Kind(
        "wechat_v3",
        make,
        meanings.wechat_v3,
        slots=(AUTHORIZATION, *WECHAT_FIELDS),
        signature=field_of("signature"),
        fields=True,
        others=WECHAT_OTHERS,
        more=wechat_v3_shifts,
        mutants=mutants,
        pass_as_same=pass_as_same,
    )


def _alipay_v2(method: str, place: Place, charset: str, certified: bool) -> Kind:
    names = ("app_id", "sign_type", "charset", "timestamp", "sign", *(("app_cert_sn",) if certified else ()))
    in_form = (CONTENT_TYPE,) if place != "query" else ()
    return Kind(
        "alipay_v2",
        alipay_v2(method, place, charset, certified),
        meanings.alipay_v2,
        slots=(*in_form, *_parameters(*names)),
        signature=parameter("sign"),
        form=True,
        decides=meanings.ALIPAY_V2_DECIDES,
        others=_others(ALIPAY_OTHERS),
        mutants=880,
        pass_as_same=105,
    )


def _alipay_v3(
    make: Make, more: More = alipay_v3_shifts, token: bool = False, *, mutants: int, pass_as_same: int
) -> Kind:
    fields = tuple(field_of(name) for name in ("app_id", "nonce", "timestamp", "sign"))
    return Kind(
        "alipay_v3",
        make,
        meanings.alipay_v3,
        slots=(AUTHORIZATION, *fields, *((header("alipay-app-auth-token"),) if token else ())),
        signature=field_of("sign"),
        fields=True,
        others={
            "header authorization, app_id": ["2021000000000003", "2021000000000002"],
            "header authorization, timestamp": [str(NOW_S), f"{NOW_S}001", f"0{NOW_S}000", f"{NOW_S}000.0"],
        },
        more=more,
        mutants=mutants,
        pass_as_same=pass_as_same,
    )


def _unionpay(method: str) -> Kind:
    certificate = ("certId",) if method == "01" else ()
    return Kind(
        "unionpay",
        unionpay(method),
        meanings.unionpay,
        slots=(CONTENT_TYPE, *_parameters("merId", "txnTime", "signMethod", "signature", *certificate)),
        signature=parameter("signature"),
        form=True,
        decides=meanings.UNIONPAY_DECIDES,
        others=_others(UNIONPAY_OTHERS),
        mutants=1180,
        pass_as_same=110,
    )


KINDS: dict[str, Kind] = {
    "wechat_v3 POST": _wechat(wechat_v3, mutants=340, pass_as_same=20),
    "wechat_v3 GET": _wechat(wechat_v3_query, mutants=330, pass_as_same=20),
    "wechat_v3_notification": Kind(
        "wechat_v3_notification",
        wechat_v3_notification,
        meanings.wechat_v3_notification,
        slots=NOTIFICATION_HEADERS,
        signature=header("wechatpay-signature"),
        others={
            "header wechatpay-serial": ["PUB_KEY_ID_2", SERIAL, ""],
            "header wechatpay-signature-type": ["WECHATPAY2-SM2-WITH-SM3", "none", "RSA"],
        },
        more=wechat_v3_notification_shifts,
        mutants=270,
        pass_as_same=30,
    ),
    **{
        f"alipay_v2 {method} {place} {charset} {'certificate' if certified else 'key'}": _alipay_v2(
            method, place, charset, certified
        )
        for (method, place), charset, certified in product(
            cast(list[tuple[str, Place]], [("GET", "query"), ("POST", "form"), ("POST", "split")]),
            ("utf-8", "gbk"),
            (False, True),
        )
    },
    "alipay_v3 POST": _alipay_v3(alipay_v3(), mutants=295, pass_as_same=6),
    "alipay_v3 GET": _alipay_v3(alipay_v3(method="GET"), mutants=290, pass_as_same=6),
    "alipay_v3 GET with a token": _alipay_v3(
        alipay_v3(method="GET", token="202611BB0123456789"), token=True, mutants=325, pass_as_same=6
    ),
    "alipay_v3 POST with a token": _alipay_v3(
        alipay_v3(token="202611BB0123456789"), token=True, mutants=325, pass_as_same=6
    ),
    "alipay_v3 by certificate": _alipay_v3(alipay_v3(certified=True), mutants=295, pass_as_same=6),
    "alipay_v3 with an expiry": _alipay_v3(alipay_v3(expires=60), mutants=295, pass_as_same=6),
    "alipay_v3 multipart": _alipay_v3(alipay_v3_multipart, alipay_v3_parts, mutants=325, pass_as_same=15),
    **{
        f"alipay_notification {charset}": Kind(
            "alipay_notification",
            alipay_notification(charset),
            meanings.alipay_notification,
            slots=(CONTENT_TYPE, *_parameters("app_id", "notify_id", "notify_time", "charset", "sign_type", "sign")),
            signature=parameter("sign"),
            form=True,
            decides=meanings.ALIPAY_NOTIFICATION_DECIDES,
            others=_others(ALIPAY_OTHERS),
            mutants=1100,
            pass_as_same=115,
        )
        for charset in ("utf-8", "gbk")
    },
    **{f"unionpay {method}": _unionpay(method) for method in ("01", "11", *(("12",) if supports_sm3() else ()))},
    "unionpay_notification": Kind(
        "unionpay_notification",
        unionpay_notification,
        meanings.unionpay,
        slots=(CONTENT_TYPE, *_parameters("merId", "queryId", "txnTime", "signMethod", "signPubKeyCert", "signature")),
        signature=parameter("signature"),
        form=True,
        decides=meanings.UNIONPAY_DECIDES,
        others=_others(UNIONPAY_OTHERS),
        more=unionpay_certificates,
        mutants=1060,
        pass_as_same=105,
    ),
    "hmac": Kind(
        "hmac",
        hmac,
        meanings.hmac,
        slots=HMAC_HEADERS,
        signature=header("paymesh-signature"),
        others={"header paymesh-key": ["other-2026", ""]},
        more=hmac_shifts,
        mutants=230,
        pass_as_same=8,
    ),
    "http_signature": Kind(
        "http_signature",
        http_signature,
        meanings.http_signature,
        slots=(CONTENT_TYPE, *(header(name) for name in ("content-digest", "signature-input", "signature"))),
        signature=_http_signature_slot(),
        others={"header content-type": CONTENT_TYPES},
        mutants=235,
        pass_as_same=20,
    ),
    "jwt": Kind(
        "jwt",
        jwt,
        meanings.jwt,
        slots=(AUTHORIZATION, *map(_token_slot, range(3))),
        more=jwt_forgeries,
        mutants=240,
        pass_as_same=60,
    ),
    "mtls by name": Kind(
        "mtls",
        mtls_by_name,
        meanings.mtls_by_name,
        slots=(_peer_slot("principal"), _peer_slot("certificate")),
        others={"peer's principal": [f"{SPIFFE}nobody", SPIFFE, "spiffe://", "", f"{SPIFFE}bookshop/x"]},
        more=mtls_claims,
        mutants=130,
        pass_as_same=90,
    ),
    "mtls pinned": Kind(
        "mtls",
        mtls_pinned,
        meanings.mtls_pinned,
        slots=(_peer_slot("principal"), _peer_slot("certificate")),
        more=mtls_claims,
        mutants=130,
        pass_as_same=115,
    ),
}


def all_exchanged(kind: Kind, request: Request) -> Iterator[Mutant]:
    for slot in (*kind.slots, *_parameters("version", "encoding", "txnType")):
        values = (kind.others or {}).get(slot.name, ())
        if values:
            yield from exchanged(request, slot, values)
