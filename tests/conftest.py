"""What every test may use: throw-away demo keys, made once a test process."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

REPOSITORY = Path(__file__).resolve().parents[1]
DEMO_POLICY = REPOSITORY / "examples" / "demo"


@pytest.fixture(scope="session")
def demo_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys that examples/demo refers to (PAYMESH_DEMO_KEYS)."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("wechat_merchant", "wechat_platform"):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (folder / f"{name}.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (folder / f"{name}_pub.pem").write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    (folder / "wechat_apiv3.key").write_text("0123456789abcdef0123456789ABCDEF")
    for name in ("hmac_card", "hmac_limited", "hash"):
        (folder / f"{name}.key").write_text(f"a throw-away secret for {name}")
    return folder


@pytest.fixture(scope="session")
def demo_environ(demo_keys: Path) -> dict[str, str]:
    return {"PAYMESH_DEMO_KEYS": str(demo_keys)}
