"""Owns the demo's throw-away keys and its two hundred generated merchants. Made once a run folder, never committed.

A group of files that belong together (a key and its certificates) is made anew when one of them is missing.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from paymesh.cli.stack.demo_certificates import (
    MERCHANT_NAME,
    UNIONPAY_NAME,
    authority,
    elliptic_root_pem,
    issue,
    new_rsa_key,
    private_pem,
    public_pem,
)

SPLIT_MERCHANTS = 200
"""Enough that ten percent of them is a number one can check."""
JWT_KEY_ID = "demo-2026"
_PUBLIC_ENDINGS = ("_pub.pem", ".crt", ".jwks.json")

Files = Mapping[str, bytes]
"""Contents by file name."""


def ensure_demo_keys(run_dir: Path) -> tuple[Path, Path]:
    """Make what is missing; returns the folder of keys and the folder with the generated merchants' policy."""
    keys, policy = run_dir / "keys", run_dir / "policy"
    for folder in (keys / "split", policy):
        folder.mkdir(parents=True, exist_ok=True)
    keys.chmod(0o700)
    for names, make in _GROUPS:
        if not all((keys / name).exists() for name in names):
            _write(keys, make())
    split = [f"split-{number:03}" for number in range(SPLIT_MERCHANTS)]
    for name in (*_SECRETS, *(f"split/{name}" for name in split)):
        if not (keys / f"{name}.key").exists():
            # 32 ASCII characters: also the length that an APIv3 key must have.
            _write_whole(keys / f"{name}.key", secrets.token_hex(16).encode(), 0o600)
    merchants = [_split_merchant(name, keys / "split" / f"{name}.key") for name in split]
    (policy / "demo-merchants.yaml").write_text(yaml.safe_dump({"merchants": merchants}), encoding="utf-8")
    return keys, policy


def _rsa_pair(name: str) -> tuple[tuple[str, ...], Callable[[], Files]]:
    private, public = f"{name}.pem", f"{name}_pub.pem"

    def make() -> Files:
        key = new_rsa_key()
        return {private: private_pem(key), public: public_pem(key)}

    return (private, public), make


def _alipay_certificates() -> Files:
    """Alipay's own key, and an application in certificate mode (`alipay_app`)."""
    root = authority("paymesh demo root of Alipay")
    platform, app = issue(root, "paymesh demo platform of Alipay"), issue(root, "paymesh demo application")
    return {
        # A blank line between the two: python-alipay-sdk splits the bundle there.
        "alipay_root.crt": root.certificate_pem + b"\n" + elliptic_root_pem("paymesh demo second root of Alipay"),
        "alipay_platform.pem": platform.key_pem,
        "alipay_platform_pub.pem": public_pem(platform.key),
        "alipay_platform.crt": platform.certificate_pem,
        "alipay_app.pem": app.key_pem,
        "alipay_app.crt": app.certificate_pem,
    }


def _unionpay_certificates() -> Files:
    """UnionPay, the gateway that answers in its name, and a merchant, all of one authority."""
    root = authority("paymesh demo authority of UnionPay")
    issued = {
        "unionpay_provider": issue(root, UNIONPAY_NAME),
        "unionpay_gateway": issue(root, UNIONPAY_NAME),
        "unionpay_merchant": issue(root, MERCHANT_NAME),
    }
    files = {"unionpay_ca.crt": root.certificate_pem}
    for name, one in issued.items():
        files |= {f"{name}.pem": one.key_pem, f"{name}.crt": one.certificate_pem}
    return files


def _jwt_issuer() -> Files:
    key = new_rsa_key()
    numbers = key.public_key().public_numbers()
    jwk = {
        "kty": "RSA",
        "kid": JWT_KEY_ID,
        "use": "sig",
        "alg": "RS256",
        "n": _base64url(numbers.n),
        "e": _base64url(numbers.e),
    }
    return {
        "jwt_issuer.pem": private_pem(key),
        "jwt_issuer_pub.pem": public_pem(key),
        "jwt_issuer.jwks.json": json.dumps({"keys": [jwk]}).encode(),
    }


def _http_signature() -> Files:
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {"http_signature.pem": private, "http_signature_pub.pem": public}


_GROUPS: tuple[tuple[tuple[str, ...], Callable[[], Files]], ...] = (
    _rsa_pair("wechat_merchant"),
    _rsa_pair("wechat_platform"),
    _rsa_pair("alipay_merchant"),
    _rsa_pair("alipay_gateway"),  # signs the gateway's own refusals
    (
        (
            "alipay_root.crt",
            "alipay_platform.pem",  # signs notifications and the sample service's answers
            "alipay_platform_pub.pem",
            "alipay_platform.crt",
            "alipay_app.pem",
            "alipay_app.crt",
        ),
        _alipay_certificates,
    ),
    (
        (
            "unionpay_ca.crt",
            "unionpay_provider.pem",
            "unionpay_provider.crt",
            "unionpay_gateway.pem",
            "unionpay_gateway.crt",
            "unionpay_merchant.pem",
            "unionpay_merchant.crt",
        ),
        _unionpay_certificates,
    ),
    (("jwt_issuer.pem", "jwt_issuer_pub.pem", "jwt_issuer.jwks.json"), _jwt_issuer),
    (("http_signature.pem", "http_signature_pub.pem"), _http_signature),
)
_SECRETS = ("wechat_apiv3", "hmac_card", "hmac_limited", "hash", "unionpay_secure")


def _split_merchant(name: str, secret: Path) -> dict[str, object]:
    credential = {"scheme": "hmac", "key_id": name, "secret": {"file": str(secret.resolve())}}
    return {"id": name, "credentials": [credential]}


def _base64url(number: int) -> str:
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        _write_whole(folder / name, content, 0o644 if name.endswith(_PUBLIC_ENDINGS) else 0o600)


def _write_whole(file: Path, content: bytes, mode: int) -> None:
    # Whole or not at all: what exists is never made again.
    unfinished = file.with_suffix(".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    unfinished.replace(file)
