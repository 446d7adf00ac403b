"""Owns merchants known by a JSON Web Token in `Authorization: Bearer` (RFC 6750, 7519, 8725).

The issuer's keys verify the token; its subject says who the merchant is. There is no nonce: a token may be used until
it expires, and only an order's number tells a second payment from a repeated one.
"""

from __future__ import annotations

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.credentials.claim import Asked, Authenticated, Claim, invalid
from paymesh.payments.denial import Denial
from paymesh.payments.jose.claims import ClaimsProblem, check_claims
from paymesh.payments.jose.jws import CompactJws, JwsProblem, parse_compact
from paymesh.payments.jose.keys import JWS_ALGORITHMS
from paymesh.payments.policy.callers import CredentialKey, KeyKind, KeyRef, Scheme
from paymesh.payments.policy.compiled import Route
from paymesh.payments.request import Request

_BEARER = "bearer"
_TYPES = (None, "jwt", "at+jwt")
_LIMITS = BodyLimits(max_bytes=8192, max_depth=16, max_members=1000)


class Jwt:
    scheme = Scheme.JWT

    def recognises(self, request: Request) -> bool:
        return any(_is_bearer(value) for value in request.headers.get("authorization", ()))

    def read(self, request: Request, route: Route) -> Claim | Denial:  # noqa: ARG002
        jws = parse_compact((request.header("authorization") or "").partition(" ")[2].strip(" "))
        if isinstance(jws, JwsProblem):
            return invalid(jws.detail)
        if jws.type not in _TYPES:
            return invalid("the token's typ is no JWT's")
        issuer = _unverified_issuer(jws)
        if issuer is None:
            return invalid("the token names no issuer")
        return Claim(
            scheme=self.scheme,
            key=KeyRef(KeyKind.JWT_ISSUER, issuer),
            algorithm=JWS_ALGORITHMS[jws.algorithm],
            signature=jws.signature,
            signed=jws.signing_input,
            content=jws,
        )

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:
        issuer = asked.policy.jwt_issuers[claim.key.name]  # its key verified, so it is there
        assert isinstance(claim.content, CompactJws)
        claims = check_claims(
            claim.content.payload, issuer.issuer, issuer.audiences, asked.now_s, leeway_s=issuer.leeway_s
        )
        if isinstance(claims, ClaimsProblem):
            return invalid(claims.detail)
        merchant = await asked.directory.merchant(asked.policy, KeyRef(KeyKind.JWT, f"{issuer.name}/{claims.subject}"))
        if merchant is None:
            return invalid("the token's subject is no merchant")
        return Authenticated(
            merchant=merchant,
            scheme=self.scheme,
            key_id=f"{issuer.name}/{key.id}",
            scopes=claims.scopes,
            claims=claims.claims,
        )


def _is_bearer(value: str) -> bool:
    return value.partition(" ")[0].lower() == _BEARER


def _unverified_issuer(jws: CompactJws) -> str | None:
    """`iss`, which chooses the keys. It is compared again once they have verified."""
    try:
        payload = parse_json(jws.payload, _LIMITS, object_only=True).value
    except BodyError:
        return None
    found = payload.get("iss") if isinstance(payload, dict) else None
    return found if isinstance(found, str) else None
