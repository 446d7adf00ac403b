"""Owns what a credential scheme is and what it finds. A scheme reads nothing but the request and the policy."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.compiled import Merchant, Policy, Route, Scheme
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
class Authenticated:
    """Who sent the request, and what the replay check needs: the signed timestamp (Unix seconds) and nonce."""

    merchant: Merchant
    scheme: Scheme
    key_id: str
    timestamp_s: int
    window_s: int
    nonce: str
    """Unique over schemes and callers."""
    on_repeat: OnRepeat = OnRepeat.REFUSE
    notice: Mapping[str, object] | None = None
    """A notification's decrypted resource; for the checks only, never forwarded or logged."""


class CredentialScheme(Protocol):
    @property
    def scheme(self) -> Scheme: ...

    def recognises(self, request: Request) -> bool:
        """Whether the request carries a credential of this scheme at all."""
        ...

    def verify(self, request: Request, route: Route, policy: Policy) -> Authenticated | Denial:
        """Check the credential. Pure; raises RepeatedHeader where a deciding header came twice."""
        ...


def invalid(detail: str) -> Denial:
    """The one refusal for a credential that does not verify; only `detail` (log, explain) says which part."""
    return Denial(Reason.CREDENTIAL_INVALID, detail)


def parse_timestamp(text: str | None) -> int | None:
    """Unix seconds in plain decimal digits; None for anything else."""
    return int(text) if text is not None and _TIMESTAMP.fullmatch(text) else None
