"""Owns signing as a UnionPay merchant or as UnionPay does it (version 5.1.0). Refuses nothing.

The gateway's own verification is not used here, and this is not used there: a mistake would not cancel out.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from paymesh.cli.demo.alipay_signing import SHANGHAI, encode_form
from paymesh.cli.demo.rsa_signing import load_key, sign_rsa_sha256
from paymesh.cli.demo.signed_request import SignedRequest

BACK, QUERY, FRONT, APP = (
    f"/gateway/api/{name}.do" for name in ("backTransReq", "queryTrans", "frontTransReq", "appTransReq")
)
FORM = "application/x-www-form-urlencoded;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class UnionpayMerchant:
    """Signs with a certificate's key (`signMethod` 01) or with a secure key (11); the one it has."""

    mer_id: str
    key: rsa.RSAPrivateKey | None = None
    cert_id: str = ""
    """The certificate's serial in decimal."""
    secure_key: bytes = b""

    @classmethod
    def from_files(cls, mer_id: str, key: Path, certificate: Path) -> UnionpayMerchant:
        return cls(mer_id, load_key(key), cert_id(certificate.read_bytes()))

    @classmethod
    def from_secure_key(cls, mer_id: str, file: Path) -> UnionpayMerchant:
        return cls(mer_id, secure_key=file.read_bytes().rstrip(b"\r\n"))

    def form(self, fields: Mapping[str, str], *, at_s: float | None = None) -> dict[str, str]:
        """All fields of a transaction, signed; what `fields` does not say is a back-end consumption of one yuan."""
        filled = {
            "version": "5.1.0",
            "encoding": "UTF-8",
            "signMethod": "11" if self.key is None else "01",
            "txnType": "01",
            "txnSubType": "01",
            "bizType": "000201",
            "channelType": "07",
            "accessType": "0",
            "merId": self.mer_id,
            "txnTime": unionpay_time(at_s),
            "txnAmt": "100",
            "currencyCode": "156",
            **({} if self.key is None else {"certId": self.cert_id}),
            **fields,
        }
        return signed_01(filled, self.key) if self.key is not None else signed_11(filled, self.secure_key)

    def request(self, fields: Mapping[str, str], *, path: str = BACK, at_s: float | None = None) -> SignedRequest:
        return SignedRequest("POST", path, {"Content-Type": FORM}, encode_form(self.form(fields, at_s=at_s)).encode())


@dataclass(frozen=True, slots=True)
class UnionpayProvider:
    """UnionPay itself: its certificate travels with what it signs."""

    key: rsa.RSAPrivateKey
    certificate: str
    """PEM."""

    @classmethod
    def from_folder(cls, folder: Path, name: str = "unionpay_provider") -> UnionpayProvider:
        return cls(load_key(folder / f"{name}.pem"), (folder / f"{name}.crt").read_text(encoding="ascii"))

    def form(self, fields: Mapping[str, str]) -> dict[str, str]:
        """The fields, signed with method 01."""
        filled = {
            "version": "5.1.0",
            "encoding": "UTF-8",
            **fields,
            "signMethod": "01",
            "signPubKeyCert": self.certificate,
        }
        return signed_01(filled, self.key)

    def notification(self, fields: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        """Headers and body of a notification that a transaction succeeded, unless `fields` says otherwise."""
        filled = {
            "respCode": "00",
            "respMsg": "success",
            "currencyCode": "156",
            "txnType": "01",
            # Of the order; and the number that UnionPay gave the transaction, the same in every repeat.
            "txnTime": unionpay_time(),
            "queryId": f"{time.time_ns():021}",
            **fields,
        }
        return {"Content-Type": FORM}, encode_form(self.form(filled)).encode()


def signed_01(fields: Mapping[str, str], key: rsa.RSAPrivateKey) -> dict[str, str]:
    """Method 01: what RSA signs (and hashes again) is the lower-case hex SHA-256 of the text."""
    digest = hashlib.sha256(sorted_text(fields).encode()).hexdigest()
    return {**fields, "signature": sign_rsa_sha256(key, digest.encode())}


def signed_11(fields: Mapping[str, str], secure_key: bytes) -> dict[str, str]:
    """Method 11: SHA-256 over the text and the key's own hex digest."""
    text = f"{sorted_text(fields)}&{hashlib.sha256(secure_key).hexdigest()}"
    return {**fields, "signature": hashlib.sha256(text.encode()).hexdigest()}


def sorted_text(fields: Mapping[str, str]) -> str:
    """`k=v&k=v` sorted by name, nothing encoded, without `signature`. Empty values stand in it."""
    return "&".join(f"{name}={value}" for name, value in sorted(fields.items()) if name != "signature")


def write_answer(fields: Mapping[str, str]) -> bytes:
    """An answer as UnionPay writes it: `k=v&k=v`, nothing encoded. Its clients split at `&` and at the first `=`."""
    return "&".join(f"{name}={value}" for name, value in fields.items()).encode()


def read_answer(body: bytes) -> dict[str, str]:
    """The fields of an answer written so. Values in braces or brackets may hold `&`."""
    fields, depth, start = [], 0, 0
    text = body.decode()
    for at, character in enumerate(text):
        depth += (character in "{[") - (character in "}]")
        if character == "&" and depth == 0:
            fields.append(text[start:at])
            start = at + 1
    fields.append(text[start:])
    return {name: value for name, _, value in (field.partition("=") for field in fields)}


def unionpay_time(at_s: float | None = None) -> str:
    """`yyyyMMddHHmmss` in Shanghai; `at_s` Unix seconds (default: now)."""
    at = time.time() if at_s is None else at_s
    return datetime.datetime.fromtimestamp(at, SHANGHAI).strftime("%Y%m%d%H%M%S")


def cert_id(pem: bytes) -> str:
    """`certId`: the certificate's serial in decimal."""
    return str(x509.load_pem_x509_certificate(pem).serial_number)
