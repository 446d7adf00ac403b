"""Owns reading JSON Web Keys and sets of them (RFC 7517, 7518 section 6, 8037). Refuses private keys in a public set.

An entry that is not for verifying here is skipped, as RFC 7517 section 5 asks: another key type or algorithm, another
use, a member missing or out of range. The set remembers why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.credentials.verifiers import EcdsaP256, Ed25519, HmacSha256Secret, RsaSha256
from paymesh.payments.jose.base64url import decode_base64url
from paymesh.payments.jose.jws import MAX_KID_CHARS
from paymesh.payments.jose.keys import MIN_SECRET_BYTES, Jwk, JwkSet
from paymesh.payments.policy.callers import Verifier
from paymesh.payments.secrets import Secret

MAX_KEYS = 200
MAX_SET_BYTES = 256 * 1024
MIN_RSA_BITS = 2048
"""RFC 7518 section 3.3."""
MAX_RSA_BITS = 8192
"""Verifying costs the square of the size."""
_P256_BYTES = 32
_LIMITS = BodyLimits(max_bytes=MAX_SET_BYTES, max_depth=8, max_members=20_000)
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})


@dataclass(frozen=True, slots=True)
class JwksProblem:
    """Why a key or a set is not used. `detail` names members, never values."""

    detail: str


def parse_jwks(content: bytes) -> JwkSet | JwksProblem:
    """A public set: `{"keys": [...]}`, at most 200 entries and 256 KiB."""
    try:
        document = parse_json(content, _LIMITS, object_only=True).value
    except BodyError as error:
        return JwksProblem(f"the key set is refused: {error.kind}")
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        return JwksProblem(f"the key set has no list of at most {MAX_KEYS} keys")
    keys: list[Jwk] = []
    skipped: list[str] = []
    for number, entry in enumerate(entries):
        if isinstance(entry, dict) and not _PRIVATE.isdisjoint(entry):
            # Whoever publishes it has lost it: nothing else in that set can be trusted either.
            return JwksProblem(f"key {number} of the set is a private key or a secret")
        key = parse_jwk(entry)
        if isinstance(key, Jwk):
            keys.append(key)
        else:
            skipped.append(f"key {number} {key.detail}")
    return JwkSet(tuple(keys), tuple(skipped))


def parse_jwk(entry: object) -> Jwk | JwksProblem:
    """One parsed key: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA, oct for HS256."""
    if not isinstance(entry, dict):
        return JwksProblem("is no object")
    kid = entry.get("kid")
    if not (kid is None or (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_CHARS)):
        return JwksProblem("has a kid that is not a short text")
    if entry.get("use", "sig") != "sig":
        return JwksProblem("is not for signatures (use)")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return JwksProblem("is not for verifying (key_ops)")
    kind = entry.get("kty")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        return JwksProblem("is of an unknown type (kty)")
    verifier = read(entry)
    if isinstance(verifier, JwksProblem):
        return verifier
    key = Jwk(kid, verifier)
    if entry.get("alg", key.algorithm.value) != key.algorithm.value:
        return JwksProblem("is for another algorithm (alg)")
    return key


def _rsa(entry: Mapping[str, object]) -> Verifier | JwksProblem:
    modulus, exponent = _bytes(entry, "n"), _bytes(entry, "e")
    if modulus is None or exponent is None or len(modulus) * 8 > MAX_RSA_BITS or len(exponent) > 4:
        return JwksProblem("has no fitting n and e")
    try:
        key = rsa.RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus)).public_key()
    except ValueError:
        return JwksProblem("has no fitting n and e")
    if key.key_size < MIN_RSA_BITS:
        return JwksProblem(f"is an RSA key of fewer than {MIN_RSA_BITS} bits")
    return RsaSha256(key)


def _ec(entry: Mapping[str, object]) -> Verifier | JwksProblem:
    if entry.get("crv") != "P-256":
        return JwksProblem("is on another curve than P-256")
    x, y = _bytes(entry, "x"), _bytes(entry, "y")
    if x is None or y is None or len(x) != _P256_BYTES or len(y) != _P256_BYTES:
        return JwksProblem("has no x and y of 32 bytes")
    try:
        # Refuses a point that is not on the curve.
        return EcdsaP256(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y))
    except ValueError:
        return JwksProblem("is no point on P-256")


def _okp(entry: Mapping[str, object]) -> Verifier | JwksProblem:
    if entry.get("crv") != "Ed25519":
        return JwksProblem("is on another curve than Ed25519")
    x = _bytes(entry, "x")
    if x is None or len(x) != 32:
        return JwksProblem("has no x of 32 bytes")
    try:
        return Ed25519(ed25519.Ed25519PublicKey.from_public_bytes(x))
    except ValueError:
        return JwksProblem("is no Ed25519 key")


def _oct(entry: Mapping[str, object]) -> Verifier | JwksProblem:
    secret = _bytes(entry, "k")
    if secret is None or len(secret) < MIN_SECRET_BYTES:
        return JwksProblem(f"has no k of at least {MIN_SECRET_BYTES} bytes")
    return HmacSha256Secret(Secret(secret))


_READERS: Mapping[str, Callable[[Mapping[str, object]], Verifier | JwksProblem]] = {
    "RSA": _rsa,
    "EC": _ec,
    "OKP": _okp,
    "oct": _oct,
}


def _bytes(entry: Mapping[str, object], name: str) -> bytes | None:
    value = entry.get(name)
    return decode_base64url(value) if isinstance(value, str) else None
