"""Owns RSA PKCS#1 v1.5 with SHA-256 over base64 signatures, the primitive of the WeChat Pay v3 schemes."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256


def verifies(key: RSAPublicKey, signature: str, message: bytes) -> bool:
    """Whether `signature` (strict base64) is `key`'s over `message`."""
    try:
        key.verify(base64.b64decode(signature, validate=True), message, PKCS1v15(), SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
