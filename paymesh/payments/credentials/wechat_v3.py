"""Owns WeChat Pay v3 request signatures: `Authorization: WECHATPAY2-SHA256-RSA2048 mchid="..",...`.

Source: WeChat Pay, "signature generation" (pay.weixin.qq.com/doc/v3/merchant/4012365336). The fields stand in any
order. Refuses unknown, repeated and missing fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from paymesh.payments.credentials.authenticated import (
    MAX_CREDENTIAL_CHARS,
    MAX_NONCE_CHARS,
    Authenticated,
    invalid,
    parse_timestamp,
)
from paymesh.payments.credentials.rsa_sha256 import verifies
from paymesh.payments.denial import Denial
from paymesh.payments.policy.compile import normalize_serial
from paymesh.payments.policy.compiled import Policy, Route, Scheme
from paymesh.payments.request import Request

AUTHORIZATION_TYPE = "WECHATPAY2-SHA256-RSA2048"
WINDOW_S = 300
"""Skew allowed either way, seconds (protocols.md section 1)."""

_FIELDS = frozenset({"mchid", "nonce_str", "signature", "timestamp", "serial_no"})
_FIELD = re.compile(r'([a-z_]+)="([^"\\]*)"', re.ASCII)


class WechatV3:
    scheme = Scheme.WECHAT_V3

    def recognises(self, request: Request) -> bool:
        return any(value.startswith("WECHATPAY2-") for value in request.headers.get("authorization", ()))

    def verify(self, request: Request, route: Route, policy: Policy) -> Authenticated | Denial:  # noqa: ARG002
        fields = parse_authorization(request.header("authorization") or "")
        if isinstance(fields, str):
            return invalid(fields)
        timestamp, nonce = parse_timestamp(fields["timestamp"]), fields["nonce_str"]
        if timestamp is None or not 0 < len(nonce) <= MAX_NONCE_CHARS:
            return invalid("timestamp or nonce_str is not well formed")
        found = policy.wechat_keys.get((fields["mchid"], normalize_serial(fields["serial_no"])))
        if found is None:
            return invalid("unknown mchid or serial_no")
        merchant, credential = found
        if not verifies(credential.public_key, fields["signature"], signed_text(request, fields["timestamp"], nonce)):
            return invalid("signature mismatch")
        return Authenticated(
            merchant=merchant,
            scheme=self.scheme,
            key_id=credential.serial_no,
            timestamp_s=timestamp,
            window_s=WINDOW_S,
            nonce=f"{self.scheme}:{credential.mchid}:{nonce}",
        )


def signed_text(request: Request, timestamp: str, nonce: str) -> bytes:
    """`METHOD\\npath?query\\ntimestamp\\nnonce\\nbody\\n`; an empty body keeps its line."""
    head = f"{request.method}\n{request.target}\n{timestamp}\n{nonce}\n"
    return head.encode("utf-8", "surrogateescape") + request.body + b"\n"


def parse_authorization(value: str) -> Mapping[str, str] | str:
    """The five fields by name, or what is wrong with the header (never its content)."""
    kind, _, rest = value.partition(" ")
    if kind != AUTHORIZATION_TYPE:
        return f"the authorization type is not {AUTHORIZATION_TYPE}"
    if len(value) > MAX_CREDENTIAL_CHARS:
        return "the authorization header is too long"
    fields: dict[str, str] = {}
    for part in rest.split(","):
        match = _FIELD.fullmatch(part.strip(" "))
        if match is None or match.group(1) not in _FIELDS:
            return "the authorization header has a part that is no known field"
        if match.group(1) in fields:
            return f"the authorization header has {match.group(1)} twice"
        fields[match.group(1)] = match.group(2)
    missing = _FIELDS - fields.keys()
    return f"the authorization header has no {min(missing)}" if missing else fields
