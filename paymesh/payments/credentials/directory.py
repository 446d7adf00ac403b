"""Owns where keys and merchants are found: first in the policy's documents, then in the merchants' table.

Refuses to tell an outage from nothing: what cannot be looked up now is Unavailable, never "unknown".
"""

from __future__ import annotations

from collections.abc import Iterable

from paymesh.payments.credentials.claim import Claim
from paymesh.payments.credentials.verifiers import RsaSha256
from paymesh.payments.jose.fetch import Offline
from paymesh.payments.jose.jws import CompactJws
from paymesh.payments.jose.key_source import KeySources
from paymesh.payments.jose.keys import MAX_TRIED
from paymesh.payments.policy.callers import CredentialKey, KeyKind, KeyRef, Merchant
from paymesh.payments.policy.compiled import Policy


class PolicyKeys:
    """The keys written in the documents, and certificates that come with a message and are trusted by them."""

    def __init__(self, key_sources: KeySources | None = None) -> None:
        self._key_sources = KeySources(Offline()) if key_sources is None else key_sources

    async def keys(self, policy: Policy, claim: Claim) -> tuple[CredentialKey, ...]:
        if claim.key.kind is KeyKind.JWT_ISSUER:
            return await self._issuers_keys(policy, claim)
        if claim.presented is not None:
            return tuple(_presented(policy, claim, claim.presented))
        return next((policy.keys[ref] for ref in (claim.key, *claim.other_names) if ref in policy.keys), ())

    async def merchant(self, policy: Policy, ref: KeyRef) -> Merchant | None:
        return policy.identities.get(ref)

    async def _issuers_keys(self, policy: Policy, claim: Claim) -> tuple[CredentialKey, ...]:
        issuer, jws = policy.jwt_issuers.get(claim.key.name), claim.content
        assert isinstance(jws, CompactJws)
        if issuer is None or claim.algorithm not in issuer.algorithms:
            return ()
        found = await self._key_sources.of(issuer.keys).keys(jws.kid, jws.algorithm)
        return tuple(
            CredentialKey(id=key.kid or "unnamed", verifier=key.verifier, merchant=None, proves={})
            for key in found[:MAX_TRIED]
        )


def _presented(policy: Policy, claim: Claim, pem: bytes) -> Iterable[CredentialKey]:
    assert claim.key.kind is KeyKind.PROVIDER  # merchants' certificates are known beforehand
    trust = policy.certificates.get(claim.key.name)
    found = None if trust is None else trust.key_of(pem)
    if found is not None:
        yield CredentialKey(
            id=found.serial,
            verifier=RsaSha256(found.key),
            merchant=None,
            proves={},
            valid_from_s=found.valid_from_s,
            valid_until_s=found.valid_until_s,
        )
