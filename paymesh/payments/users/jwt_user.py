"""Owns users known by a JSON Web Token that is verified here (RFC 7519, 8725). Refuses tokens of other kinds."""

from __future__ import annotations

import asyncio

from paymesh.payments.denial import Denial, Unavailable
from paymesh.payments.jose.claims import ClaimsProblem, check_claims
from paymesh.payments.jose.jws import CompactJws, JwsProblem, parse_compact, verifies
from paymesh.payments.jose.key_source import KeySources
from paymesh.payments.jose.keys import MAX_TRIED, Jwk
from paymesh.payments.users.providers import JwtProvider
from paymesh.payments.users.user import User, identified, lacks_scopes, not_valid

TYPES = (None, "jwt", "at+jwt")
"""Anything else was made for another purpose: a logout, a proof of possession (RFC 8725 section 3.11)."""


async def verify_jwt(provider: JwtProvider, token: str, key_sources: KeySources, now_s: int) -> User | Denial:
    """The token's subject. Raises Unavailable where the issuer's keys cannot be had."""
    jws = parse_compact(token)
    if isinstance(jws, JwsProblem):
        return not_valid(jws.detail)
    if jws.type not in TYPES:
        return not_valid("the token's typ is no JWT's")
    if jws.algorithm not in provider.algorithms:
        return not_valid("the token's alg is not the issuer's")
    # Claims first: a token that is refused anyway must not make us fetch keys. They count once the signature verified.
    claims = check_claims(jws.payload, provider.issuer, provider.audiences, now_s, leeway_s=provider.leeway_s)
    if isinstance(claims, ClaimsProblem):
        return not_valid(claims.detail)
    keys = await _keys(provider, jws, key_sources)
    if not any(verifies(key, jws) for key in keys[:MAX_TRIED]):
        return not_valid("signature mismatch" if keys else "unknown key")
    refused = lacks_scopes(claims.scopes, provider.required_scopes)
    if refused is not None:
        return refused
    assert claims.expires_at_s is not None  # exp is required
    return identified(User(claims.subject, provider.name, claims.expires_at_s + provider.leeway_s, claims.scopes))


async def _keys(provider: JwtProvider, jws: CompactJws, key_sources: KeySources) -> tuple[Jwk, ...]:
    try:
        async with asyncio.timeout(provider.timeout_s):
            return await key_sources.of(provider.keys).keys(jws.kid, jws.algorithm)
    except TimeoutError:
        raise Unavailable("the issuer's keys did not come in time") from None
