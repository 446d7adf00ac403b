"""Owns paymesh's own HMAC-SHA256 scheme, for merchants without a provider protocol (protocols.md section 1).

`Paymesh-Signature` is lower-case hex over `METHOD\\npath?query\\ntimestamp\\nnonce\\nsha256hex(body)`.
"""

from __future__ import annotations

import hashlib
import re

from paymesh.payments.credentials.claim import (
    MAX_CREDENTIAL_CHARS,
    Asked,
    Authenticated,
    Claim,
    caller_of,
    invalid,
    is_nonce,
    parse_timestamp,
)
from paymesh.payments.denial import Denial
from paymesh.payments.policy.callers import Algorithm, CredentialKey, KeyKind, KeyRef, Scheme
from paymesh.payments.policy.compiled import Route
from paymesh.payments.request import Request

WINDOW_S = 300
_KEY = "paymesh-key"
_SIGNATURE = re.compile(r"[0-9a-f]{64}", re.ASCII)


class HmacSha256:
    scheme = Scheme.HMAC

    def recognises(self, request: Request) -> bool:
        return _KEY in request.headers

    def read(self, request: Request, route: Route) -> Claim | Denial:  # noqa: ARG002
        key_id, stamp = request.header(_KEY) or "", request.header("paymesh-timestamp")
        nonce, signature = request.header("paymesh-nonce") or "", request.header("paymesh-signature") or ""
        timestamp = parse_timestamp(stamp)
        if stamp is None or timestamp is None or not is_nonce(nonce):
            return invalid("Paymesh-Timestamp or Paymesh-Nonce is not well formed")
        if len(key_id) > MAX_CREDENTIAL_CHARS or not _SIGNATURE.fullmatch(signature):
            return invalid("Paymesh-Key or Paymesh-Signature is not well formed")
        body_digest = hashlib.sha256(request.body).hexdigest()
        text = f"{request.method}\n{request.target}\n{stamp}\n{nonce}\n{body_digest}"
        return Claim(
            scheme=self.scheme,
            key=KeyRef(KeyKind.HMAC, key_id),
            algorithm=Algorithm.HMAC_SHA256,
            signature=bytes.fromhex(signature),
            signed=text.encode("utf-8", "surrogateescape"),
            timestamp_s=timestamp,
            window_s=WINDOW_S,
            nonce=nonce,
        )

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:  # noqa: ARG002
        return caller_of(claim, key)
