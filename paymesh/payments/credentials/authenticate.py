"""Owns the part of authentication that is the same for every scheme: the key, its algorithm, its dates, the signature.

The caller never learns whether the key or the signature was wrong, neither by the answer nor by the time it took.
"""

from __future__ import annotations

from dataclasses import replace

from paymesh.payments.credentials.claim import Asked, Authenticated, Claim, CredentialScheme, invalid
from paymesh.payments.credentials.verifiers import decoys
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.callers import Algorithm, CredentialKey, Verifier
from paymesh.payments.request import RepeatedHeader

MAX_SHOWN_CHARS = 2048
"""Of the string to sign, in a sandbox merchant's refusal."""


async def authenticate(scheme: CredentialScheme, asked: Asked) -> Authenticated | Denial:
    """Who sent the request, or why it is refused. Raises Unavailable where a key cannot be known now."""
    try:
        claim = scheme.read(asked.request, asked.route)
    except RepeatedHeader as repeated:
        return invalid(f"header {repeated} came more than once")
    if isinstance(claim, Denial):
        return claim
    keys = await asked.directory.keys(asked.policy, claim)
    key, problem = _verifying_key(claim, keys, asked.now_s)
    if key is None:
        return replace(invalid(problem), hint=_hint(claim, keys))
    if claim.expires_at_s is not None and asked.now_s > claim.expires_at_s:
        return Denial(Reason.TIMESTAMP_EXPIRED, "the signature's own expiry has passed")
    return await scheme.accept(claim, key, asked)


def _verifying_key(claim: Claim, keys: tuple[CredentialKey, ...], now_s: int) -> tuple[CredentialKey | None, str]:
    fitting = [key for key in keys if claim.algorithm in (None, key.verifier.algorithm)]
    usable = [key for key in fitting if key.valid_at(now_s)]
    for key in usable:
        if key.verifier.verifies(claim.signature, claim.signed):
            return key, ""
    if usable:
        return None, f"signature mismatch (tried {len(usable)} key{'s' if len(usable) > 1 else ''})"
    _spend_the_time(claim, fitting or keys)
    if fitting:
        return None, "the key is not valid at this time"
    return None, "the key is of another algorithm" if keys else "unknown key"


def _spend_the_time(claim: Claim, known: tuple[CredentialKey, ...] | list[CredentialKey]) -> None:
    algorithm = claim.algorithm or (known[0].verifier.algorithm if known else Algorithm.RSA_SHA256)
    decoy: Verifier | None = decoys().get(algorithm)
    if decoy is not None:
        decoy.verifies(claim.signature, claim.signed)


def _hint(claim: Claim, keys: tuple[CredentialKey, ...]) -> str | None:
    if not any(key.merchant is not None and key.merchant.sandbox for key in keys):
        return None
    text = claim.string_to_sign.decode("utf-8", "replace")
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "..."
