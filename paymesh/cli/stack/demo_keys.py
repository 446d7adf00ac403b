"""Owns the demo's throw-away keys and its two hundred generated merchants. Made once a run folder, never committed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SPLIT_MERCHANTS = 200
"""Enough that ten percent of them is a number one can check."""


def ensure_demo_keys(run_dir: Path) -> tuple[Path, Path]:
    """Make what is missing; returns the folder of keys and the folder with the generated merchants' policy."""
    keys, policy = run_dir / "keys", run_dir / "policy"
    for folder in (keys / "split", policy):
        folder.mkdir(parents=True, exist_ok=True)
    keys.chmod(0o700)
    for name in ("wechat_merchant", "wechat_platform"):
        private, public = keys / f"{name}.pem", keys / f"{name}_pub.pem"
        if not (private.exists() and public.exists()):
            _rsa_pair(private, public)
    names = [f"split-{number:03}" for number in range(SPLIT_MERCHANTS)]
    secret_files = ["wechat_apiv3", "hmac_card", "hmac_limited", "hash", *(f"split/{name}" for name in names)]
    for name in secret_files:
        if not (keys / f"{name}.key").exists():
            # 32 ASCII characters: also the length that an APIv3 key must have.
            _write_private(keys / f"{name}.key", secrets.token_hex(16).encode())
    merchants = [
        {
            "id": name,
            "credentials": [
                {"scheme": "hmac", "key_id": name, "secret": {"file": str((keys / "split" / f"{name}.key").resolve())}}
            ],
        }
        for name in names
    ]
    (policy / "demo-merchants.yaml").write_text(yaml.safe_dump({"merchants": merchants}), encoding="utf-8")
    return keys, policy


def _rsa_pair(private: Path, public: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write_private(private, pem)
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _write_private(file: Path, content: bytes) -> None:
    # Whole or not at all: what exists is never made again.
    unfinished = file.with_suffix(".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    unfinished.replace(file)
