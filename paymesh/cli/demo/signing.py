"""Owns signing as a merchant or a provider does it, for the demo, the benchmarks and the tests. Refuses nothing.

The gateway's own verification is not used here, and this is not used there: a mistake would not cancel out.
Alipay's and UnionPay's parties have modules of their own and are named here as well, so that one import serves.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from paymesh.cli.demo.alipay_signing import AlipayMerchant, AlipayProvider, AlipayV3Merchant
from paymesh.cli.demo.rsa_signing import load_key, sign_rsa_sha256
from paymesh.cli.demo.signed_request import SignedRequest
from paymesh.cli.demo.unionpay_signing import UnionpayMerchant, UnionpayProvider

__all__ = [
    "AlipayMerchant",
    "AlipayProvider",
    "AlipayV3Merchant",
    "HmacMerchant",
    "SignedRequest",
    "UnionpayMerchant",
    "UnionpayProvider",
    "WechatMerchant",
    "WechatPlatform",
    "load_key",
]


@dataclass(frozen=True, slots=True)
class HmacMerchant:
    """A generic merchant: signs with paymesh's HMAC scheme."""

    key_id: str
    secret: bytes

    @classmethod
    def from_file(cls, key_id: str, file: Path) -> HmacMerchant:
        return cls(key_id, file.read_bytes().rstrip(b"\r\n"))

    def headers(
        self, method: str, target: str, body: bytes = b"", *, at_s: int | None = None, nonce: str | None = None
    ) -> dict[str, str]:
        """The credential headers of one request; `at_s` Unix seconds (default: now)."""
        stamp, nonce = str(int(time.time()) if at_s is None else at_s), nonce or secrets.token_hex(16)
        lines = (method, target, stamp, nonce, hashlib.sha256(body).hexdigest())
        return {
            "Paymesh-Key": self.key_id,
            "Paymesh-Timestamp": stamp,
            "Paymesh-Nonce": nonce,
            "Paymesh-Signature": hmac.new(self.secret, "\n".join(lines).encode(), "sha256").hexdigest(),
        }


@dataclass(frozen=True, slots=True)
class WechatMerchant:
    """A WeChat Pay v3 merchant: signs with its RSA key."""

    mchid: str
    serial_no: str
    key: rsa.RSAPrivateKey

    @classmethod
    def from_file(cls, mchid: str, serial_no: str, file: Path) -> WechatMerchant:
        return cls(mchid, serial_no, load_key(file))

    def headers(
        self, method: str, target: str, body: bytes = b"", *, at_s: int | None = None, nonce: str | None = None
    ) -> dict[str, str]:
        """The Authorization header of one request; `at_s` Unix seconds (default: now)."""
        stamp, nonce = str(int(time.time()) if at_s is None else at_s), nonce or secrets.token_hex(16).upper()
        text = f"{method}\n{target}\n{stamp}\n{nonce}\n".encode() + body + b"\n"
        fields = (
            f'mchid="{self.mchid}",nonce_str="{nonce}",signature="{sign_rsa_sha256(self.key, text)}",'
            f'timestamp="{stamp}",serial_no="{self.serial_no}"'
        )
        return {"Authorization": f"WECHATPAY2-SHA256-RSA2048 {fields}"}


@dataclass(frozen=True, slots=True)
class WechatPlatform:
    """WeChat Pay itself: sends signed notifications whose resource is encrypted with the APIv3 key."""

    serial_no: str
    key: rsa.RSAPrivateKey
    apiv3_key: bytes

    @classmethod
    def from_folder(cls, folder: Path, serial_no: str = "PUB_KEY_ID_0000000000000000001") -> WechatPlatform:
        apiv3_key = (folder / "wechat_apiv3.key").read_bytes().strip()
        return cls(serial_no, load_key(folder / "wechat_platform.pem"), apiv3_key)

    def notification(self, resource: dict[str, object], *, at_s: int | None = None) -> tuple[dict[str, str], bytes]:
        """Headers and body of a `TRANSACTION.SUCCESS` notification about `resource`."""
        nonce, associated = secrets.token_hex(6), "transaction"
        sealed = AESGCM(self.apiv3_key).encrypt(nonce.encode(), json.dumps(resource).encode(), associated.encode())
        body = json.dumps(
            {
                "id": f"EV-{secrets.token_hex(8)}",
                "create_time": time.strftime("%Y-%m-%dT%H:%M:%S+08:00", time.gmtime(time.time() + 8 * 3600)),
                "resource_type": "encrypt-resource",
                "event_type": "TRANSACTION.SUCCESS",
                "summary": "支付成功",
                "resource": {
                    "original_type": "transaction",
                    "algorithm": "AEAD_AES_256_GCM",
                    "ciphertext": base64.b64encode(sealed).decode(),
                    "associated_data": associated,
                    "nonce": nonce,
                },
            },
            ensure_ascii=False,
        ).encode()
        return self.sign(body, at_s=at_s), body

    def sign(self, body: bytes, *, at_s: int | None = None) -> dict[str, str]:
        """The headers that sign `body`, as WeChat Pay sends them with answers and notifications."""
        stamp, nonce = str(int(time.time()) if at_s is None else at_s), secrets.token_hex(16)
        return {
            "Wechatpay-Timestamp": stamp,
            "Wechatpay-Nonce": nonce,
            "Wechatpay-Signature": sign_rsa_sha256(self.key, f"{stamp}\n{nonce}\n".encode() + body + b"\n"),
            "Wechatpay-Serial": self.serial_no,
            "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
            "Content-Type": "application/json",
        }
