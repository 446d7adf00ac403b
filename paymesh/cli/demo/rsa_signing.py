"""Owns what every RSA-signing demo party shares: reading a key, signing with it. Refuses keys that are not RSA."""

from __future__ import annotations

import base64
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


def load_key(file: Path) -> rsa.RSAPrivateKey:
    """An unencrypted RSA private key from a PEM file."""
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{file} is no RSA key")
    return key


def sign_rsa_sha256(key: rsa.RSAPrivateKey, text: bytes) -> str:
    """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, 8.2), base64 without line breaks."""
    return base64.b64encode(key.sign(text, padding.PKCS1v15(), hashes.SHA256())).decode()
