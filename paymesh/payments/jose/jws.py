"""Owns reading a compact JWS (RFC 7515 section 7.1) and verifying it. Refuses what the token says of its own key.

`jwk`, `jku`, `x5c` and `x5u` are never looked at: a token that brings its key proves nothing (RFC 8725 section 3.10).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.jose.base64url import decode_base64url
from paymesh.payments.jose.keys import Jwk, JwsAlgorithm

MAX_TOKEN_CHARS = 8192
MAX_KID_CHARS = 256
_HEADER_LIMITS = BodyLimits(max_bytes=4096, max_depth=6, max_members=64)
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class JwsProblem:
    """Why a token is not read. `detail` holds nothing of the token."""

    detail: str


@dataclass(frozen=True, slots=True)
class CompactJws:
    """A token that was taken apart. Nothing of it is believed before `verifies`."""

    algorithm: JwsAlgorithm
    kid: str | None
    type: str | None
    """`typ` in lower case, without `application/` (RFC 7515 section 4.1.9)."""
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    signing_input: bytes = field(repr=False)
    """Exactly the bytes that the signature covers."""


def parse_compact(token: str) -> CompactJws | JwsProblem:
    """Take a token apart. Pure and bounded; whatever the text, a value comes back."""
    if len(token) > MAX_TOKEN_CHARS:
        return JwsProblem(f"the token is longer than {MAX_TOKEN_CHARS} characters")
    parts = token.split(".")
    if len(parts) != 3:
        return JwsProblem("the token has not three parts")
    header, payload, signature = (decode_base64url(part) for part in parts)
    if header is None or payload is None or signature is None:
        return JwsProblem("a part of the token is not base64url")
    read = _read_header(header)
    if isinstance(read, JwsProblem):
        return read
    algorithm, kid, kind = read
    return CompactJws(algorithm, kid, kind, payload, signature, token.rpartition(".")[0].encode("ascii"))


def verifies(key: Jwk, jws: CompactJws) -> bool:
    """Whether the signature is the key's, by the key's own algorithm; the header must name the same."""
    return key.algorithm is jws.algorithm and key.verifier.verifies(jws.signature, jws.signing_input)


def _read_header(header: bytes) -> tuple[JwsAlgorithm, str | None, str | None] | JwsProblem:
    try:
        members = parse_json(header, _HEADER_LIMITS, object_only=True).value
    except BodyError as error:
        return JwsProblem(f"the token's header is refused: {error.kind}")
    assert isinstance(members, dict)  # object_only
    if "crit" in members or "b64" in members:
        # No extension is understood here, so a critical one refuses the token (RFC 7515 4.1.11, RFC 7797 section 6).
        return JwsProblem("the token's header has crit or b64")
    if "zip" in members or "enc" in members:
        return JwsProblem("the token is compressed or encrypted")
    algorithm = next((known for known in JwsAlgorithm if members.get("alg") == known.value), None)
    if algorithm is None:
        return JwsProblem("the token's alg is none of " + ", ".join(JwsAlgorithm))
    kid, kind = members.get("kid", _ABSENT), members.get("typ", _ABSENT)
    if kid is not _ABSENT and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_CHARS):
        return JwsProblem("the token's kid is not a short text")
    if kind is not _ABSENT and not isinstance(kind, str):
        return JwsProblem("the token's typ is not text")
    shown = kind.lower().removeprefix("application/") if isinstance(kind, str) else None
    return algorithm, kid if isinstance(kid, str) else None, shown
