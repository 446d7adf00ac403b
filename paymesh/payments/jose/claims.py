"""Owns judging a verified token's claims (RFC 7519 section 4.1, RFC 8725). Refuses tokens for others and bound ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.bodies.limits import BodyLimits

MAX_LEEWAY_S = 60
MAX_SUBJECT_CHARS = 255
"""OpenID Connect Core section 2."""
REQUIRED = ("exp", "iat", "iss", "aud", "sub")
_LATEST_S = 1 << 53
_LIMITS = BodyLimits(max_bytes=8192, max_depth=16, max_members=1000)


@dataclass(frozen=True, slots=True)
class ClaimsProblem:
    """Why the claims do not hold. `detail` names claims, never values."""

    detail: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says of its subject. `expires_at_s`: Unix seconds; None only where `exp` was not required."""

    subject: str
    scopes: frozenset[str]
    expires_at_s: int | None
    claims: Mapping[str, object] = field(repr=False)


def check_claims(
    payload: bytes,
    issuer: str,
    audiences: Sequence[str],
    now_s: float,
    leeway_s: int = 0,
    *,
    required: Sequence[str] = REQUIRED,
    max_lifetime_s: int | None = None,
) -> Claims | ClaimsProblem:
    """Judge the payload of a token whose signature verified.

    `leeway_s`: clocks may differ by so much, at most 60 s. `max_lifetime_s`: from `iat` to `exp`. ValueError: the
    caller's own mistake (more leeway, no audience).
    """
    if not 0 <= leeway_s <= MAX_LEEWAY_S or not audiences:
        raise ValueError("a leeway of at most 60 s and at least one audience are required")
    try:
        claims = parse_json(payload, _LIMITS, object_only=True).value
    except BodyError as error:
        return ClaimsProblem(f"the token's payload is refused: {error.kind}")
    assert isinstance(claims, dict)  # object_only
    missing = [name for name in required if claims.get(name) is None]
    if missing:
        return ClaimsProblem(f"the token has no {missing[0]}")
    problem = (
        _for_us(claims, issuer, audiences)
        or _in_time(claims, now_s, leeway_s)
        or _short_enough(claims, max_lifetime_s)
        or bound_problem(claims)
    )
    if problem is not None:
        return ClaimsProblem(problem)
    subject, scopes = claims.get("sub", ""), read_scopes(claims)
    if not isinstance(subject, str) or len(subject) > MAX_SUBJECT_CHARS or ("sub" in required and not subject):
        return ClaimsProblem("the token's sub is not a text of at most 255 characters")
    if scopes is None:
        return ClaimsProblem("the token's scope or scp is not well formed")
    expires = numeric(claims.get("exp"))
    return Claims(subject, scopes, None if expires is None else math.floor(expires), claims)


def read_scopes(claims: Mapping[str, object]) -> frozenset[str] | None:
    """`scope` (text, RFC 8693 section 4.2), else `scp` (list or text); None where it is neither."""
    found = claims.get("scope", claims.get("scp", ""))
    if isinstance(found, str):
        return frozenset(found.split())
    if isinstance(found, list) and all(isinstance(item, str) for item in found):
        return frozenset(found)
    return None


def names_audience(value: object, audiences: Sequence[str]) -> bool:
    """Whether `aud`, a text or a list of texts, names one of them. A list with anything else names none."""
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list) or not all(isinstance(item, str) for item in named):
        return False
    return any(item in audiences for item in named)


def numeric(value: object) -> int | Decimal | None:
    """A NumericDate (RFC 7519 section 2): seconds, perhaps with a fraction; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return value if 0 <= value <= _LATEST_S else None


def bound_problem(claims: Mapping[str, object]) -> str | None:
    """Why a token that is bound to a key is refused: whoever sends it must also prove that key (RFC 7800, RFC 9449)."""
    return "the token is bound to a key (cnf), which is not verified here" if "cnf" in claims else None


def _for_us(claims: Mapping[str, object], issuer: str, audiences: Sequence[str]) -> str | None:
    if claims.get("iss", issuer) != issuer:
        return "the token is of another issuer"
    if "aud" in claims and not names_audience(claims["aud"], audiences):
        return "the token is for another audience"
    return None


def _in_time(claims: Mapping[str, object], now_s: float, leeway_s: int) -> str | None:
    moments: dict[str, int | Decimal] = {}
    for name in ("exp", "iat", "nbf"):
        if name in claims:
            moment = numeric(claims[name])
            if moment is None:
                return f"the token's {name} is no date"
            moments[name] = moment
    if "exp" in moments and now_s >= moments["exp"] + leeway_s:
        return "the token has expired"
    if "iat" in moments and moments["iat"] > now_s + leeway_s:
        return "the token was issued in the future"
    if "nbf" in moments and moments["nbf"] > now_s + leeway_s:
        return "the token is not valid yet"
    return None


def _short_enough(claims: Mapping[str, object], max_lifetime_s: int | None) -> str | None:
    begins, ends = numeric(claims.get("iat")), numeric(claims.get("exp"))
    if max_lifetime_s is None or (begins is not None and ends is not None and ends - begins <= max_lifetime_s):
        return None
    return f"the token is valid for longer than {max_lifetime_s} s"
