"""Owns Alipay v3 (REST) request signatures: `Authorization: ALIPAY-SHA256withRSA app_id=..,nonce=..,sign=..`.

Source: protocols.md section 1; Alipay, "v3 signing" (opendocs.alipay.com/open-v3/054q58). What stands before `,sign=`
is signed as it stands. Of a multipart body only the part `data` is signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from paymesh.payments.bodies.errors import BodyError, body_denial
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.bodies.multipart import MultipartError, boundary_of, single_part
from paymesh.payments.credentials.claim import (
    MAX_CREDENTIAL_CHARS,
    MAX_NONCE_CHARS,
    Asked,
    Authenticated,
    Claim,
    caller_of,
    decode_base64,
    invalid,
    unsupported,
)
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.callers import Algorithm, CredentialKey, KeyKind, KeyRef, Scheme
from paymesh.payments.policy.compiled import Route
from paymesh.payments.request import Request

AUTHORIZATION_TYPE = "ALIPAY-SHA256withRSA"
MAX_AGE_S = 600
_SIGNED_PART = "data"
_APP_AUTH_TOKEN = "alipay-app-auth-token"  # noqa: S105 - a header's name
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]*", re.ASCII)
_FIELD = re.compile(r"([a-z_]+)=([^,=\s\"]+)", re.ASCII)
_REQUIRED = frozenset({"app_id", "nonce", "timestamp"})
_KNOWN = _REQUIRED | {"app_cert_sn", "expired_seconds"}
_MILLISECONDS = re.compile(r"[0-9]{10,14}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,5}", re.ASCII)


class AlipayV3:
    scheme = Scheme.ALIPAY_V3

    def recognises(self, request: Request) -> bool:
        return any(value.startswith("ALIPAY-") for value in request.headers.get("authorization", ()))

    def read(self, request: Request, route: Route) -> Claim | Denial:  # noqa: ARG002
        header = request.header("authorization") or ""
        if header.startswith("ALIPAY-SM2"):
            return unsupported("SM2 signatures are not supported: sign with ALIPAY-SHA256withRSA")
        read = parse_authorization(header)
        if isinstance(read, str):
            return invalid(read)
        auth_string, fields, sign = read
        signature = decode_base64(sign)
        if signature is None or not _MILLISECONDS.fullmatch(fields["timestamp"]):
            return invalid("timestamp or sign is not well formed")
        if len(fields["nonce"]) > MAX_NONCE_CHARS:
            return invalid("nonce is not well formed")
        lifetime = fields.get("expired_seconds", str(MAX_AGE_S))
        if not _SECONDS.fullmatch(lifetime):
            return invalid("expired_seconds is not well formed")
        try:
            part = _signed_part(request)
        except MultipartError as error:
            return Denial(Reason.BODY_MALFORMED, str(error))
        token = request.header(_APP_AUTH_TOKEN) or ""
        # The token follows the body in the text with nothing but a line break between: neither may pass for the other.
        if not _TOKEN.fullmatch(token):
            return invalid("alipay-app-auth-token is not well formed")
        if part is None and request.body and not request.body.rstrip(b" \t\r\n").endswith(b"}"):
            return Denial(Reason.BODY_MALFORMED, "the body is no JSON object")
        text = f"{auth_string}\n{request.method}\n{request.target}\n".encode("utf-8", "surrogateescape")
        suffix = f"{token}\n".encode() if token else b""
        serial = fields.get("app_cert_sn")
        timestamp_s = int(fields["timestamp"]) // 1000
        return Claim(
            scheme=self.scheme,
            key=KeyRef(KeyKind.ALIPAY, fields["app_id"] if serial is None else f"{fields['app_id']}/{serial}"),
            algorithm=Algorithm.RSA_SHA256,
            signature=signature,
            signed=text + (request.body if part is None else part) + b"\n" + suffix,
            timestamp_s=timestamp_s,
            window_s=MAX_AGE_S,
            expires_at_s=timestamp_s + int(lifetime),
            nonce=fields["nonce"],
            content=part,
        )

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:
        caller = caller_of(claim, key)
        if claim.content is None:
            return caller
        assert isinstance(claim.content, bytes)
        try:
            limits = asked.route.request_reading.limits
            document = parse_json(claim.content, limits, object_only=True).value
        except BodyError as error:
            return body_denial(error, f"part {_SIGNED_PART}")
        return replace(caller, document=document)


def parse_authorization(value: str) -> tuple[str, Mapping[str, str], str] | str:
    """What is signed of the header, its fields, and the signature; or what is wrong with it (never its content)."""
    kind, _, rest = value.partition(" ")
    if kind != AUTHORIZATION_TYPE:
        return f"the authorization type is not {AUTHORIZATION_TYPE}"
    if len(value) > MAX_CREDENTIAL_CHARS:
        return "the authorization header is too long"
    auth_string, found, sign = rest.partition(",sign=")
    if not found:
        return "the authorization header has no sign, or it is not the last field"
    fields: dict[str, str] = {}
    for part in auth_string.split(","):
        match = _FIELD.fullmatch(part)
        if match is None or match.group(1) not in _KNOWN:
            return "the authorization header has a part that is no known field"
        if match.group(1) in fields:
            return f"the authorization header has {match.group(1)} twice"
        fields[match.group(1)] = match.group(2)
    missing = _REQUIRED - fields.keys()
    return f"the authorization header has no {min(missing)}" if missing else (auth_string, fields, sign)


def _signed_part(request: Request) -> bytes | None:
    boundary = boundary_of(request.header("content-type") or "")
    return None if boundary is None else single_part(request.body, boundary, _SIGNED_PART)
