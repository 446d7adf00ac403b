"""Owns the demo's own merchants as the tests use them, and verifying what they are answered."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from yarl import URL

from paymesh.cli.demo.alipay_signing import AlipayV3Merchant
from paymesh.cli.demo.signed_request import SignedRequest
from paymesh.cli.demo.unionpay_signing import UnionpayMerchant, read_answer, sorted_text

MER_ID = "777290058110048"
SECURE_KEY_MER_ID = "777290058110049"

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers (lower case), body."""


async def send(address: str, request: SignedRequest) -> Answer:
    """Send exactly these bytes to HOST:PORT."""
    url = URL(f"http://{address}{request.target}", encoded=True)
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
        session.request(request.method, url, headers=request.headers, data=request.body or None) as answer,
    ):
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()


def v3(merchant: AlipayV3Merchant, operation: str, fields: dict[str, str], **options: object) -> SignedRequest:
    """A call of Alipay's REST API; `options` as of AlipayV3Merchant.headers."""
    target, body = f"/v3/alipay/trade/{operation}", json.dumps(fields, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", **merchant.headers("POST", target, body, **options)}  # type: ignore[arg-type]
    return SignedRequest("POST", target, headers, body)


def unionpay_merchant(keys: Path) -> UnionpayMerchant:
    return UnionpayMerchant.from_files(MER_ID, keys / "unionpay_merchant.pem", keys / "unionpay_merchant.crt")


def unionpay_number(number: str) -> str:
    """UnionPay's order numbers have letters and digits only."""
    return number.replace("-", "")


def alipay_signed(keys: Path, headers: dict[str, str], body: bytes) -> None:
    """Raises InvalidSignature unless Alipay's certificate signed the v3 answer."""
    key = x509.load_pem_x509_certificate((keys / "alipay_platform.crt").read_bytes()).public_key()
    assert isinstance(key, RSAPublicKey)
    text = f"{headers['alipay-timestamp']}\n{headers['alipay-nonce']}\n".encode() + body + b"\n"
    key.verify(base64.b64decode(headers["alipay-signature"]), text, PKCS1v15(), SHA256())


def unionpay_signed(keys: Path, answer: Answer) -> dict[str, str]:
    """The fields of an answer. Raises unless the certificate in it signed it, and UnionPay's authority signed that."""
    assert answer[0] == 200, answer
    fields = read_answer(answer[2])
    certificate = x509.load_pem_x509_certificate(fields["signPubKeyCert"].encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((keys / "unionpay_ca.crt").read_bytes()))
    key = certificate.public_key()
    assert isinstance(key, RSAPublicKey)
    digest = hashlib.sha256(sorted_text(fields).encode()).hexdigest()
    key.verify(base64.b64decode(fields["signature"]), digest.encode(), PKCS1v15(), SHA256())
    return fields
