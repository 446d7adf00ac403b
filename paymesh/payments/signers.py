"""Owns signing what the gateway itself says, so that a verifying SDK can read it (protocols.md section 3).

A refusal is the same text for the same reason, so its signature is made once and kept: RSA signing costs 600 us, and a
stranger must not be able to make us spend it for each request.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Signer:
    """An RSA key that merchants are configured to trust as the provider's."""

    key: RSAPrivateKey = field(repr=False)
    serial: str
    """What the protocol calls it: `certId` (decimal), `alipay_cert_sn`; empty where it has no name."""
    certificate: str = ""
    """PEM, where answers carry it (UnionPay `signPubKeyCert`)."""

    def sign(self, text: bytes) -> str:
        """RSA PKCS#1 v1.5 with SHA-256, base64."""
        return base64.b64encode(self.key.sign(text, PKCS1v15(), SHA256())).decode()

    def sign_once(self, text: bytes) -> str:
        """`sign`, remembered: for texts that repeat, such as refusals."""
        return _remembered(self, text)

    def __hash__(self) -> int:
        return id(self.key)


@functools.lru_cache(maxsize=_KEPT)
def _remembered(signer: Signer, text: bytes) -> str:
    return signer.sign(text)


def unionpay_text(digest_text: bytes) -> bytes:
    """What method 01 signs: the lower-case hex SHA-256 of the sorted text (it is hashed again by the signature)."""
    return hashlib.sha256(digest_text).hexdigest().encode()
