"""Owns the primitives: a parsed key and its one algorithm. Refuses to raise: whatever is wrong does not verify."""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA512, SM3, Hash

from paymesh.payments.policy.callers import Algorithm, Verifier
from paymesh.payments.secrets import Secret

_P256_BYTES = 32


@dataclass(frozen=True, slots=True)
class RsaSha256:
    """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2)."""

    key: rsa.RSAPublicKey
    algorithm: Algorithm = Algorithm.RSA_SHA256

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        try:
            self.key.verify(signature, signed, padding.PKCS1v15(), SHA256())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class RsaPssSha512:
    """RSASSA-PSS with SHA-512, MGF1 of the same, a salt of 64 bytes (RFC 9421 section 3.3.1)."""

    key: rsa.RSAPublicKey
    algorithm: Algorithm = Algorithm.RSA_PSS_SHA512

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        try:
            self.key.verify(signature, signed, padding.PSS(padding.MGF1(SHA512()), 64), SHA512())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class EcdsaP256:
    """ECDSA on P-256 with SHA-256; the signature is r and s, 32 bytes each (RFC 9421 section 3.3.4, RFC 7518 3.4)."""

    key: ec.EllipticCurvePublicKey
    algorithm: Algorithm = Algorithm.ECDSA_P256_SHA256

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        if len(signature) != 2 * _P256_BYTES:
            return False
        r, s = (int.from_bytes(half, "big") for half in (signature[:_P256_BYTES], signature[_P256_BYTES:]))
        try:
            self.key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Ed25519:
    """EdDSA on Curve25519 (RFC 8032)."""

    key: ed25519.Ed25519PublicKey
    algorithm: Algorithm = Algorithm.ED25519

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        try:
            self.key.verify(signature, signed)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class HmacSha256Secret:
    """HMAC with SHA-256 (RFC 2104); the signature is the raw 32 bytes."""

    secret: Secret
    algorithm: Algorithm = Algorithm.HMAC_SHA256

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        return hmac.compare_digest(hmac.digest(self.secret.reveal(), signed, "sha256"), signature)


@dataclass(frozen=True, slots=True)
class UnionpaySecret:
    """UnionPay's keyed digest, methods 11 (SHA-256) and 12 (SM3): hex of H(text & hex H(key)), lower case."""

    secret: Secret
    algorithm: Algorithm

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        return hmac.compare_digest(unionpay_digest(self.algorithm, self.secret, signed).encode(), signature)


def unionpay_digest(algorithm: Algorithm, secret: Secret, text: bytes) -> str:
    """The signature of `text`: 64 lower-case hex characters."""
    digest = _sm3 if algorithm is Algorithm.UNIONPAY_SM3 else _sha256
    return digest(text + b"&" + digest(secret.reveal()).encode())


@dataclass(frozen=True, slots=True)
class ProvenInTls:
    """For a certificate that Envoy verified in the handshake."""

    algorithm: Algorithm = Algorithm.TLS

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        return signature == signed == b""


@functools.cache
def decoys() -> Mapping[Algorithm, Verifier]:
    """A key for each algorithm that verifies nothing: an unknown caller costs the time of a wrong signature."""
    modulus = int.from_bytes(b"\xc5" + hashlib.shake_256(b"a key of nobody").digest(254) + b"\x01", "big")
    unknown = rsa.RSAPublicNumbers(65537, modulus).public_key()
    secret = Secret(hashlib.sha256(b"a secret of nobody").digest())
    found: list[Verifier] = [
        RsaSha256(unknown),
        RsaPssSha512(unknown),
        EcdsaP256(ec.derive_private_key(0x5EC, ec.SECP256R1()).public_key()),
        Ed25519(ed25519.Ed25519PrivateKey.from_private_bytes(secret.reveal()).public_key()),
        HmacSha256Secret(secret),
        UnionpaySecret(secret, Algorithm.UNIONPAY_SHA256),
    ]
    if supports_sm3():
        found.append(UnionpaySecret(secret, Algorithm.UNIONPAY_SM3))
    return {verifier.algorithm: verifier for verifier in found}


@functools.cache
def supports_sm3() -> bool:
    """Whether the OpenSSL under `cryptography` has SM3; some distributions build it without."""
    try:
        Hash(SM3())
    except UnsupportedAlgorithm:
        return False
    return True


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sm3(data: bytes) -> str:
    digest = Hash(SM3())
    digest.update(data)
    return digest.finalize().hex()
