"""Owns verifying answers as the merchants' SDKs do. Raises InvalidSignature, or KeyError where a signature is missing.

The gateway's own signing is not used here: a mistake would not cancel out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256


def verify_rsa_sha256(public_key: Path, signature: str, text: bytes) -> None:
    """`signature` in base64."""
    key = serialization.load_pem_public_key(public_key.read_bytes())
    if not isinstance(key, rsa.RSAPublicKey):
        raise TypeError(f"{public_key} is no RSA key")
    key.verify(base64.b64decode(signature), text, padding.PKCS1v15(), SHA256())


def verified_alipay_v2(public_key: Path, method: str, body: bytes, charset: str = "utf-8") -> dict[str, object]:
    """The object of an answer. What is signed is its text as it stands there, braces included."""
    text, name = body.decode(charset), method.replace(".", "_") + "_response"
    start = text.index("{", text.index(f'"{name}"'))
    found, end = json.JSONDecoder().raw_decode(text, start)
    verify_rsa_sha256(public_key, json.loads(text)["sign"], text[start:end].encode(charset))
    return dict(found)


def verified_v3(public_key: Path, prefix: str, headers: Mapping[str, str], body: bytes) -> dict[str, object]:
    """The object of an answer that headers sign: `alipay` or `wechatpay` is the prefix. Names are lower case."""
    text = f"{headers[f'{prefix}-timestamp']}\n{headers[f'{prefix}-nonce']}\n".encode() + body + b"\n"
    verify_rsa_sha256(public_key, headers[f"{prefix}-signature"], text)
    return dict(json.loads(body))
