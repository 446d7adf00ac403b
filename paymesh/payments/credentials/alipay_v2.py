"""Owns Alipay v2 request signatures: parameters of `gateway.do` in the query, a form body, or both.

Source: protocols.md section 1; Alipay, "signing with your own code" (opendocs.alipay.com/common/02mse7). The text keeps
`sign_type`, drops `sign` and empty values. Plain keys are found by `app_id`, certificates by `app_cert_sn` too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from paymesh.payments.bodies.errors import BodyError, body_denial
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.china_time import china_seconds
from paymesh.payments.credentials.claim import (
    MAX_CREDENTIAL_CHARS,
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
from paymesh.payments.signed_form import (
    FormError,
    Parameters,
    as_text,
    carries_form,
    check_one_reading,
    deciding,
    joined,
    merged_parameters,
)

WINDOW_S = 600
"""Alipay refuses what is older than ten minutes (protocols.md, Alipay v3); v2 states no figure, so the same."""
_METHOD = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)
_TIMESTAMP_CHARS = len("2026-11-22 22:00:00")
_UNSIGNED = frozenset({"sign"})
_DECIDING = deciding("app_auth_token")
"""Who is acted for. What else decides ends where it must: JSON, a date, a name that the policy knows."""


@dataclass(frozen=True, slots=True)
class _Content:
    parameters: Parameters
    charset: str


class AlipayV2:
    scheme = Scheme.ALIPAY_V2

    def recognises(self, request: Request) -> bool:
        return bool(request.query) or carries_form(request)

    def read(self, request: Request, route: Route) -> Claim | Denial:  # noqa: ARG002
        try:
            parameters = merged_parameters(request)
            values = as_text({name: parameters[name] for name in parameters if name in _READ}, "utf-8")
            text = joined(parameters, _UNSIGNED)
            check_one_reading(text, parameters, _DECIDING)
        except FormError as error:
            return invalid(str(error))
        if "sign" not in values:
            return Denial(Reason.CREDENTIAL_MISSING, "no sign among the parameters")
        sign_type = values.get("sign_type")
        if sign_type != "RSA2":
            return (
                unsupported("sign_type is not RSA2") if sign_type in ("RSA", "SM2") else invalid("no known sign_type")
            )
        timestamp = parse_china_time(values.get("timestamp", ""))
        sign = values["sign"]
        signature = decode_base64(sign) if len(sign) <= MAX_CREDENTIAL_CHARS else None
        if timestamp is None or signature is None or not _METHOD.fullmatch(values.get("method", "")):
            return invalid("method, timestamp or sign is not well formed")
        serial = values.get("app_cert_sn")
        name = values.get("app_id", "") if serial is None else f"{values.get('app_id', '')}/{serial}"
        return Claim(
            scheme=self.scheme,
            key=KeyRef(KeyKind.ALIPAY, name),
            algorithm=Algorithm.RSA_SHA256,
            signature=signature,
            signed=text,
            timestamp_s=timestamp,
            window_s=WINDOW_S,
            content=_Content(parameters, values.get("charset", "utf-8")),
        )

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:
        content = claim.content
        assert isinstance(content, _Content)
        try:
            values = as_text(content.parameters, content.charset)
        except FormError as error:
            return Denial(Reason.BODY_MALFORMED, str(error))
        if "encrypt_type" in values:
            return Denial(Reason.CONTENT_UNSUPPORTED, "biz_content is encrypted (encrypt_type)")
        document: dict[str, object] = dict(values)
        if "biz_content" in values:
            limits = asked.route.request_reading.limits
            try:
                document["biz_content"] = parse_json(values["biz_content"].encode(), limits, object_only=True).value
            except BodyError as error:
                return body_denial(error, "biz_content")
        return replace(caller_of(claim, key), parameters=values, document=document)


_READ = frozenset({"sign", "sign_type", "timestamp", "app_id", "app_cert_sn", "charset", "method"})
"""Read before the signature verified, to find the key; all are plain ASCII."""


def parse_china_time(text: str) -> int | None:
    """`yyyy-MM-dd HH:mm:ss`, Asia/Shanghai, as Unix seconds; else None."""
    if len(text) != _TIMESTAMP_CHARS or not text.isascii():
        return None
    return china_seconds(text, "%Y-%m-%d %H:%M:%S")
