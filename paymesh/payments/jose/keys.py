"""Owns a parsed key of JOSE: its name, and the one algorithm that its type allows. Refuses a choice by the token.

A key for RS256 cannot verify HS256 whatever a header says, since the algorithm belongs to the key (RFC 8725 3.1).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from paymesh.payments.credentials.verifiers import HmacSha256Secret
from paymesh.payments.policy.callers import Algorithm, Verifier
from paymesh.payments.secrets import Secret

MIN_SECRET_BYTES = 32
"""RFC 7518 section 3.2: a key of the digest's size or larger."""
MAX_TRIED = 8
"""Keys tried for one token: bounds the work that a stranger can cause."""


class JwsAlgorithm(enum.StrEnum):
    """The `alg` values that are verified; compared exactly. There is no `none`."""

    RS256 = "RS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"
    HS256 = "HS256"


JWS_ALGORITHMS: Mapping[JwsAlgorithm, Algorithm] = {
    JwsAlgorithm.RS256: Algorithm.RSA_SHA256,
    JwsAlgorithm.ES256: Algorithm.ECDSA_P256_SHA256,
    JwsAlgorithm.EDDSA: Algorithm.ED25519,
    JwsAlgorithm.HS256: Algorithm.HMAC_SHA256,
}
_NAMES = {algorithm: name for name, algorithm in JWS_ALGORITHMS.items()}


@dataclass(frozen=True, slots=True)
class Jwk:
    """A key that verifies. `kid` None: it has no name, and only a token that names none can mean it."""

    kid: str | None
    verifier: Verifier

    @property
    def algorithm(self) -> JwsAlgorithm:
        return _NAMES[self.verifier.algorithm]


@dataclass(frozen=True, slots=True)
class JwkSet:
    """Keys in the order of their document. `skipped` says which entries were left out and why, without their values."""

    keys: tuple[Jwk, ...]
    skipped: tuple[str, ...] = ()

    def find(self, kid: str | None, algorithm: JwsAlgorithm) -> tuple[Jwk, ...]:
        """Those of that name (all, where the token names none) that have the algorithm."""
        return tuple(key for key in self.keys if kid in (None, key.kid) and key.algorithm is algorithm)

    def knows(self, kid: str | None) -> bool:
        return any(kid in (None, key.kid) for key in self.keys)


def secret_keys(secret: Secret) -> JwkSet:
    """The one nameless key of an issuer that signs with HS256. ValueError for fewer than 32 bytes."""
    if len(secret.reveal()) < MIN_SECRET_BYTES:
        raise ValueError(f"an HS256 secret has at least {MIN_SECRET_BYTES} bytes")
    return JwkSet((Jwk(None, HmacSha256Secret(secret)),))
