"""Owns WeChat Pay v3 request signatures: `Authorization: WECHATPAY2-SHA256-RSA2048 mchid="..",...`.

Source: WeChat Pay, "signature generation" (pay.weixin.qq.com/doc/v3/merchant/4012365336). The fields stand in any
order. Refuses unknown, repeated and missing fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from paymesh.payments.credentials.claim import (
    MAX_CREDENTIAL_CHARS,
    Asked,
    Authenticated,
    Claim,
    caller_of,
    decode_base64,
    invalid,
    is_nonce,
    parse_timestamp,
    unsupported,
)
from paymesh.payments.denial import Denial
from paymesh.payments.policy.callers import Algorithm, CredentialKey, KeyKind, KeyRef, Scheme
from paymesh.payments.policy.compile_credentials import normalize_serial
from paymesh.payments.policy.compiled import Route
from paymesh.payments.request import Request

AUTHORIZATION_TYPE = "WECHATPAY2-SHA256-RSA2048"
SM2_AUTHORIZATION_TYPE = "WECHATPAY2-SM2-WITH-SM3"
WINDOW_S = 300
"""Skew allowed either way, seconds (protocols.md section 1)."""

_FIELDS = frozenset({"mchid", "nonce_str", "signature", "timestamp", "serial_no"})
_FIELD = re.compile(r'([a-z_]+)="([^"\\]*)"', re.ASCII)


class WechatV3:
    scheme = Scheme.WECHAT_V3

    def recognises(self, request: Request) -> bool:
        return any(value.startswith("WECHATPAY2-") for value in request.headers.get("authorization", ()))

    def read(self, request: Request, route: Route) -> Claim | Denial:  # noqa: ARG002
        header = request.header("authorization") or ""
        if header.startswith(SM2_AUTHORIZATION_TYPE):
            return unsupported("SM2 signatures are not supported: sign with WECHATPAY2-SHA256-RSA2048")
        fields = parse_authorization(header)
        if isinstance(fields, str):
            return invalid(fields)
        timestamp, nonce = parse_timestamp(fields["timestamp"]), fields["nonce_str"]
        signature = decode_base64(fields["signature"])
        if timestamp is None or not is_nonce(nonce) or signature is None:
            return invalid("timestamp, nonce_str or signature is not well formed")
        head = f"{request.method}\n{request.target}\n{fields['timestamp']}\n{nonce}\n"
        return Claim(
            scheme=self.scheme,
            key=KeyRef(KeyKind.WECHAT, f"{fields['mchid']}/{normalize_serial(fields['serial_no'])}"),
            algorithm=Algorithm.RSA_SHA256,
            signature=signature,
            # An empty body keeps its line.
            signed=head.encode("utf-8", "surrogateescape") + request.body + b"\n",
            timestamp_s=timestamp,
            window_s=WINDOW_S,
            nonce=nonce,
        )

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:  # noqa: ARG002
        return caller_of(claim, key)


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
