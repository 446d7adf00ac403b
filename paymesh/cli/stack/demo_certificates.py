"""Owns the demo's throw-away certificates: Alipay's certificate mode, and everything of UnionPay. Never committed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

UNIONPAY_NAME = "041@Z12@00040000:UNIONPAY"
"""The common name by which UnionPay's certificate is known; its third part names the owner."""
MERCHANT_NAME = "041@Z2026@demo-bazaar"
_VALID = datetime.timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Issued:
    """A key and its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        return private_pem(self.key)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def authority(name: str) -> Issued:
    """A root that signs itself."""
    key = new_rsa_key()
    subject = _name(name)
    return Issued(key, _certificate(subject, subject, key.public_key(), key, authority=True))


def issue(issuer: Issued, name: str, key: rsa.RSAPrivateKey | None = None) -> Issued:
    """A certificate of `issuer` for `key` (default: a new one)."""
    key = new_rsa_key() if key is None else key
    issued_by = issuer.certificate.subject
    return Issued(key, _certificate(_name(name), issued_by, key.public_key(), issuer.key, authority=False))


def elliptic_root_pem(name: str) -> bytes:
    """A root with an elliptic curve key, as Alipay's own bundle has them: they do not count in its serial."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(_name(name), _name(name), key.public_key(), key, authority=True)
    return certificate.public_bytes(serialization.Encoding.PEM)


def new_rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _name(common_name: str) -> x509.Name:
    # All four parts: Alipay's serials are computed over them.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "paymesh demo"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "throw-away"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    signing_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(signing_key, hashes.SHA256())
    )
