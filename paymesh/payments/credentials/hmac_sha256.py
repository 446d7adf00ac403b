"""Owns paymesh's own HMAC-SHA256 scheme, for merchants without a provider protocol (protocols.md section 1).

`Paymesh-Signature` is lower-case hex over `METHOD\\npath?query\\ntimestamp\\nnonce\\nsha256hex(body)`.
"""

from __future__ import annotations

import hashlib
import hmac

from paymesh.payments.credentials.authenticated import (
    MAX_NONCE_CHARS,
    Authenticated,
    invalid,
    parse_timestamp,
)
from paymesh.payments.denial import Denial
from paymesh.payments.policy.compiled import Policy, Route, Scheme
from paymesh.payments.request import Request
from paymesh.payments.secrets import Secret

WINDOW_S = 300
_KEY = "paymesh-key"
_UNKNOWN_CALLER = Secret(b"unknown caller: same work, no answer")


class HmacSha256:
    scheme = Scheme.HMAC

    def recognises(self, request: Request) -> bool:
        return _KEY in request.headers

    def verify(self, request: Request, route: Route, policy: Policy) -> Authenticated | Denial:  # noqa: ARG002
        key_id, stamp = request.header(_KEY) or "", request.header("paymesh-timestamp")
        nonce, signature = request.header("paymesh-nonce") or "", request.header("paymesh-signature") or ""
        timestamp = parse_timestamp(stamp)
        if stamp is None or timestamp is None or not 0 < len(nonce) <= MAX_NONCE_CHARS:
            return invalid("Paymesh-Timestamp or Paymesh-Nonce is not well formed")
        found = policy.hmac_keys.get(key_id)
        # An unknown key costs the same time as a wrong signature: how long we took tells no one which it was.
        secret = _UNKNOWN_CALLER if found is None else found[1].secret
        expected = sign(secret, request.method, request.target, stamp, nonce, request.body)
        agrees = hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape"))
        if found is None or not agrees:
            return invalid("unknown Paymesh-Key" if found is None else "signature mismatch")
        return Authenticated(
            merchant=found[0],
            scheme=self.scheme,
            key_id=key_id,
            timestamp_s=timestamp,
            window_s=WINDOW_S,
            nonce=f"{self.scheme}:{key_id}:{nonce}",
        )


def sign(secret: Secret, method: str, target: str, timestamp: str, nonce: str, body: bytes) -> str:
    """The signature a merchant sends; `target` is path and query, `timestamp` Unix seconds."""
    text = f"{method}\n{target}\n{timestamp}\n{nonce}\n{hashlib.sha256(body).hexdigest()}"
    return hmac.new(secret.reveal(), text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
