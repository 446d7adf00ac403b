"""Owns what a credential scheme is: it reads a claim out of a request, and makes a caller of a claim that verified.

Between the two stands `authenticate.py`, the same for every scheme: finding the key, its algorithm, its dates, the
signature. A scheme touches no key.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.callers import Algorithm, CredentialKey, KeyRef, Merchant, Scheme
from paymesh.payments.policy.compiled import Policy, Route
from paymesh.payments.request import Request

MAX_CREDENTIAL_CHARS = 4096
"""Bounds the work done for strangers. No genuine header comes near it: an RSA-4096 signature is 684 characters."""
MAX_NONCE_CHARS = 128
_TIMESTAMP = re.compile(r"[0-9]{1,11}", re.ASCII)


class OnRepeat(enum.Enum):
    """What an identical message with a nonce seen before means."""

    REFUSE = "refuse"
    MARK = "mark"
    """Let through, marked `x-pay-replay`: a provider repeats its notification until it hears an acknowledgement."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of its sender. Nothing of it is believed before `signature` verifies over `signed`."""

    scheme: Scheme
    key: KeyRef
    signature: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    """Exactly the bytes that the signature covers."""
    text: bytes | None = field(default=None, repr=False)
    """The string to sign as its protocol calls it, where `signed` is a digest of it (UnionPay method 01)."""
    other_names: tuple[KeyRef, ...] = ()
    """What the same key may be called as well."""
    algorithm: Algorithm | None = None
    """What the request names; None where its protocol does not."""
    timestamp_s: int | None = None
    """Unix seconds; None where the protocol has no timestamp."""
    window_s: int = 0
    """Age allowed, seconds, and as much ahead."""
    expires_at_s: int | None = None
    """Unix seconds after which the sender itself calls the message stale."""
    nonce: str | None = None
    """None where the protocol has no nonce: identical payments are then caught by their order number."""
    presented: bytes | None = field(default=None, repr=False)
    """A certificate (PEM) that came with the message and must be verified before its key is used."""
    content: object = field(default=None, repr=False)
    """Whatever the scheme's `accept` needs again."""

    @property
    def string_to_sign(self) -> bytes:
        """What a merchant compares with its own."""
        return self.signed if self.text is None else self.text


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Who sent the request, and what was verified of it."""

    merchant: Merchant
    scheme: Scheme
    key_id: str
    timestamp_s: int | None = None
    window_s: int = 0
    nonce: str | None = None
    """Unique over schemes and callers."""
    on_repeat: OnRepeat = OnRepeat.REFUSE
    proves: Mapping[str, str] = field(default_factory=dict)
    """Identifiers that are proven to be the caller's own: `mchid`, `app_id`, `mer_id`, `seller_id`."""
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Verified request parameters of form protocols (Alipay v2, UnionPay)."""
    document: object = field(default=None, repr=False)
    """What the message says where that is not simply its JSON body: form parameters, a multipart's signed part, a
    notification's decrypted resource. For the checks only, never forwarded or logged. None: read the body."""
    scopes: frozenset[str] | None = None
    """Of a token; None where the scheme has no scopes."""
    claims: Mapping[str, object] = field(default_factory=dict, repr=False)
    """Of a token that verified."""


class KeyDirectory(Protocol):
    """Where keys and merchants are found: the policy, a merchants' table, a JWKS."""

    async def keys(self, policy: Policy, claim: Claim) -> tuple[CredentialKey, ...]:
        """Every key of that name; empty if there is none. Raises Unavailable where it cannot be known now."""
        ...

    async def merchant(self, policy: Policy, ref: KeyRef) -> Merchant | None:
        """Whose identity this is (an mchid, an app id, a token's subject). Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What a claim is judged by."""

    request: Request
    route: Route
    policy: Policy = field(repr=False)
    directory: KeyDirectory = field(repr=False)
    now_s: int


class CredentialScheme(Protocol):
    @property
    def scheme(self) -> Scheme: ...

    def recognises(self, request: Request) -> bool:
        """Whether the request carries a credential of this scheme at all."""
        ...

    def read(self, request: Request, route: Route) -> Claim | Denial:
        """The claim. Pure, bounded work; raises RepeatedHeader where a deciding header came twice."""
        ...

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:
        """The caller, once `key` verified the claim. Raises Unavailable."""
        ...


def invalid(detail: str) -> Denial:
    """The one refusal for a credential that does not verify; only `detail` (log, explain) says which part."""
    return Denial(Reason.CREDENTIAL_INVALID, detail)


def unsupported(detail: str) -> Denial:
    """For an algorithm that the protocol knows and this gateway does not verify; `detail` is ours, not the caller's."""
    return Denial(Reason.CREDENTIAL_UNSUPPORTED, detail)


def caller_of(claim: Claim, key: CredentialKey) -> Authenticated:
    """The plain case: the key's merchant, with the claim's freshness."""
    assert key.merchant is not None  # only notifications are signed by a provider's key
    return Authenticated(
        merchant=key.merchant,
        scheme=claim.scheme,
        key_id=key.id,
        timestamp_s=claim.timestamp_s,
        window_s=claim.window_s,
        # The length keeps apart what `:` cannot: a key `a` with nonce `b:c`, and a key `a:b` with nonce `c`.
        nonce=None if claim.nonce is None else f"{claim.scheme}:{len(claim.key.name)}:{claim.key.name}:{claim.nonce}",
        proves=key.proves,
    )


def notified(
    claim: Claim,
    key: CredentialKey,
    merchant: Merchant,
    asked: Asked,
    *,
    proves: Mapping[str, str],
    document: object,
    parameters: Mapping[str, str] | None = None,
    notification_id: str | None = None,
) -> Authenticated:
    """A provider's message about `merchant`. `notification_id`: what stays when it is repeated; default: its nonce."""
    return Authenticated(
        merchant=merchant,
        scheme=claim.scheme,
        key_id=key.id,
        timestamp_s=claim.timestamp_s,
        window_s=claim.window_s,
        nonce=f"{claim.scheme}:{asked.route.channels[0].name}:{notification_id or claim.nonce}",
        on_repeat=OnRepeat.MARK,
        proves=proves,
        parameters=parameters or {},
        document=document,
    )


def parse_timestamp(text: str | None) -> int | None:
    """Unix seconds in plain decimal digits; None for anything else."""
    return int(text) if text is not None and _TIMESTAMP.fullmatch(text) else None


def is_nonce(text: str) -> bool:
    """Whether it may be a nonce: short, and without the line breaks that part the lines of a text to sign."""
    return 0 < len(text) <= MAX_NONCE_CHARS and text.isprintable()


def decode_base64(text: str) -> bytes | None:
    """Strict base64: padded, no white space, nothing after it, and no bits that decoders drop; else None."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # A last character with unused bits set decodes to the same bytes: two spellings of one signature.
    return decoded if base64.b64encode(decoded) == text.encode("utf-8", "surrogateescape") else None
