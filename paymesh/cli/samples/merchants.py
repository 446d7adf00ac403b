"""Owns whom the simulators know, and verifying what they sign. Refuses whoever is not on the list.

The gateway's own verification is not used here, nor its adapters' signing: a mistake would not cancel out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from paymesh.cli.demo.alipay_signing import cert_sn
from paymesh.cli.demo.alipay_signing import sorted_text as alipay_text
from paymesh.cli.demo.providers import APP_ID, MER_ID
from paymesh.cli.demo.unionpay_signing import signed_11
from paymesh.cli.demo.unionpay_signing import sorted_text as unionpay_text
from paymesh.cli.demo.world import MCHID, SERIAL_NO

CERTIFIED_APP_ID, SECRET_MER_ID = "2021000000000002", "777290058110049"
"""Whose keys are named by a certificate (Alipay), and who signs with a secure key (UnionPay)."""
WINDOW_S = 300
_FIELD = re.compile(r'([a-z_]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class WechatMerchants:
    keys: Mapping[tuple[str, str], rsa.RSAPublicKey]
    """By mchid and serial."""

    @classmethod
    def from_folder(cls, keys: Path) -> WechatMerchants:
        return cls({(MCHID, SERIAL_NO): _public_key(keys / "wechat_merchant_pub.pem")})

    def caller(self, method: str, target: str, authorization: str, body: bytes) -> str | None:
        """The mchid that signed the request within five minutes; None if nobody known did."""
        kind, _, written = authorization.partition(" ")
        fields = dict(_FIELD.findall(written))
        key = self.keys.get((fields.get("mchid", ""), fields.get("serial_no", "")))
        stamp, nonce = fields.get("timestamp", ""), fields.get("nonce_str", "")
        if kind != "WECHATPAY2-SHA256-RSA2048" or key is None or not stamp.isdecimal() or not nonce:
            return None
        if abs(time.time() - int(stamp)) > WINDOW_S:
            return None
        text = f"{method}\n{target}\n{stamp}\n{nonce}\n".encode() + body + b"\n"
        return fields["mchid"] if _verifies(key, fields.get("signature", ""), text) else None


@dataclass(frozen=True, slots=True)
class AlipayMerchants:
    keys: Mapping[tuple[str, str], rsa.RSAPublicKey]
    """By app_id and app_cert_sn, which is empty for a plain key."""

    @classmethod
    def from_folder(cls, keys: Path) -> AlipayMerchants:
        certificate = (keys / "alipay_app.crt").read_bytes()
        return cls(
            {
                (APP_ID, ""): _public_key(keys / "alipay_merchant_pub.pem"),
                (CERTIFIED_APP_ID, cert_sn(certificate)): _certified_key(certificate),
            }
        )

    def caller(self, parameters: Mapping[str, str]) -> str | None:
        """The app_id that signed the parameters; None if nobody known did."""
        app_id = parameters.get("app_id", "")
        key = self.keys.get((app_id, parameters.get("app_cert_sn", "")))
        if key is None or parameters.get("sign_type") != "RSA2":
            return None
        signed = alipay_text({name: value for name, value in parameters.items() if name != "sign"})
        text = signed.encode(parameters.get("charset", "utf-8"))
        return app_id if _verifies(key, parameters.get("sign", ""), text) else None


@dataclass(frozen=True, slots=True)
class UnionpayMerchants:
    keys: Mapping[tuple[str, str], rsa.RSAPublicKey]
    """By merId and certId."""
    secure_keys: Mapping[str, bytes]

    @classmethod
    def from_folder(cls, keys: Path) -> UnionpayMerchants:
        certificate = (keys / "unionpay_merchant.crt").read_bytes()
        serial = str(x509.load_pem_x509_certificate(certificate).serial_number)
        secure_key = (keys / "unionpay_secure.key").read_bytes().rstrip(b"\r\n")
        return cls({(MER_ID, serial): _certified_key(certificate)}, {SECRET_MER_ID: secure_key})

    def caller(self, fields: Mapping[str, str]) -> str | None:
        """The merId that signed the fields, by method 01 or 11; None if nobody known did."""
        mer_id, signature = fields.get("merId", ""), fields.get("signature", "")
        if fields.get("signMethod") == "11" and mer_id in self.secure_keys:
            ours = signed_11({n: v for n, v in fields.items() if n != "signature"}, self.secure_keys[mer_id])
            return mer_id if hmac.compare_digest(ours["signature"].encode(), signature.encode()) else None
        key = self.keys.get((mer_id, fields.get("certId", "")))
        if fields.get("signMethod") != "01" or key is None:
            return None
        digest = hashlib.sha256(unionpay_text(fields).encode()).hexdigest().encode()
        return mer_id if _verifies(key, signature, digest) else None


def _verifies(key: rsa.RSAPublicKey, signature: str, text: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), text, padding.PKCS1v15(), SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _public_key(file: Path) -> rsa.RSAPublicKey:
    key = serialization.load_pem_public_key(file.read_bytes())
    assert isinstance(key, rsa.RSAPublicKey)  # the demo makes no other
    return key


def _certified_key(certificate: bytes) -> rsa.RSAPublicKey:
    key = x509.load_pem_x509_certificate(certificate).public_key()
    assert isinstance(key, rsa.RSAPublicKey)  # the demo makes no other
    return key
