"""Owns how a refusal looks in each protocol: one table from reason to status and code, one writer a protocol.

Sources: protocols.md section 3; WeChat Pay v3 "error codes" (pay.weixin.qq.com/doc/v3/merchant/4012081606) for the
codes PARAM_ERROR, SIGN_ERROR, NO_AUTH, RESOURCE_NOT_EXISTS, FREQUENCY_LIMITED, SYSTEM_ERROR.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from paymesh.payments.denial import Denial, Reason
from paymesh.payments.internal_names import REASON_HEADER, REQUEST_ID_HEADER
from paymesh.payments.policy.compiled import Protocol, Route


@dataclass(frozen=True, slots=True)
class _Words:
    status: int
    wechat_code: str
    message: str


_WORDS: Mapping[Reason, _Words] = {
    Reason.ROUTE_UNKNOWN: _Words(404, "RESOURCE_NOT_EXISTS", "no such endpoint"),
    Reason.CREDENTIAL_MISSING: _Words(401, "SIGN_ERROR", "the request carries no credential that this endpoint takes"),
    Reason.CREDENTIAL_INVALID: _Words(401, "SIGN_ERROR", "the credential does not verify"),
    Reason.TIMESTAMP_EXPIRED: _Words(401, "SIGN_ERROR", "the timestamp is outside the accepted window"),
    Reason.NONCE_REPLAYED: _Words(401, "SIGN_ERROR", "the nonce was used before"),
    Reason.RATE_LIMITED: _Words(429, "FREQUENCY_LIMITED", "too many requests; retry later"),
    Reason.BODY_MALFORMED: _Words(400, "PARAM_ERROR", "the body is not acceptable JSON"),
    Reason.BODY_DUPLICATE_KEY: _Words(400, "PARAM_ERROR", "the body has a duplicate key"),
    Reason.BODY_TOO_LARGE: _Words(413, "PARAM_ERROR", "the body is too large"),
    Reason.CONTENT_UNSUPPORTED: _Words(415, "PARAM_ERROR", "this content type or content encoding is not read here"),
    Reason.FIELD_INVALID: _Words(400, "PARAM_ERROR", "a field is missing or not valid"),
    Reason.CHANNEL_NONE: _Words(403, "NO_AUTH", "no channel takes this payment"),
    Reason.UNAVAILABLE: _Words(503, "SYSTEM_ERROR", "not processed: the gateway cannot decide now; retry later"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer. `headers` have lower-case names."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def protocol_of(route: Route | None, path: str) -> Protocol:
    """The caller's protocol: the route's, or the best guess from a path that belongs to none."""
    if route is not None:
        return route.protocol
    return Protocol.WECHAT_V3 if path.startswith("/v3/") else Protocol.PAYMESH


def write_refusal(denial: Denial, protocol: Protocol, request_id: str) -> Refusal:
    """The refusal as the caller's SDK reads it. Holds no value of the request."""
    words = _WORDS[denial.reason]
    message = words.message if denial.field is None else f"{words.message}: {denial.field}"
    code = words.wechat_code if protocol is Protocol.WECHAT_V3 else str(denial.reason)
    headers = [
        ("content-type", "application/json; charset=utf-8"),
        (REASON_HEADER, str(denial.reason)),
        (REQUEST_ID_HEADER, request_id),
    ]
    if denial.retry_after_s is not None:
        headers.append(("retry-after", str(denial.retry_after_s)))
    body = json.dumps({"code": code, "message": message}, ensure_ascii=False).encode()
    return Refusal(words.status, tuple(headers), body)
