"""Owns how a refusal looks in each protocol: one table from reason to statuses and codes, one writer a protocol.

Sources: protocols.md section 3; WeChat Pay v3 "error codes" (pay.weixin.qq.com/doc/v3/merchant/4012081606); Alipay
"public error codes" (opendocs.alipay.com/common/02km9f); UnionPay "response codes" (open.unionpay.com, appendix).
Holds no value of the request, except a sandbox merchant's own string to sign.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import http_sf

from paymesh.payments.denial import Denial, LimitTold, Reason
from paymesh.payments.internal_names import REASON_HEADER, REQUEST_ID_HEADER
from paymesh.payments.policy.compiled import Protocol, Route
from paymesh.payments.request import Request
from paymesh.payments.routing import query_parameters
from paymesh.payments.signers import Signer, unionpay_text

JSON_TYPE = "application/json; charset=utf-8"
ALIPAY_V2_TYPE = "text/html;charset=utf-8"
UNIONPAY_TYPE = "text/html;charset=UTF-8"
TEXT_TYPE = "text/plain; charset=utf-8"

ALIPAY_MESSAGES: Mapping[str, str] = {
    "20000": "Service Currently Unavailable",
    "20001": "Insufficient Token Permissions",
    "40001": "Missing Required Arguments",
    "40002": "Invalid Arguments",
    "40004": "Business Failed",
    "40005": "Call Limited",
    "40006": "Insufficient Permissions",
}
"""`msg` for each `code` of Alipay v2."""


class Words(NamedTuple):
    """One reason in every vocabulary. `sub_code` is Alipay's, `resp_code` UnionPay's."""

    status: int
    wechat_code: str
    alipay_code: str
    sub_code: str
    resp_code: str
    message: str


_WORDS: Mapping[Reason, Words] = {
    Reason.ROUTE_UNKNOWN: Words(404, "RESOURCE_NOT_EXISTS", "40002", "isv.invalid-method", "10", "no such endpoint"),
    Reason.CREDENTIAL_MISSING: Words(
        401,
        "SIGN_ERROR",
        "40001",
        "isv.missing-signature",
        "11",
        "the request carries no credential that this endpoint takes",
    ),
    Reason.CREDENTIAL_INVALID: Words(
        401, "SIGN_ERROR", "40002", "isv.invalid-signature", "11", "the credential does not verify"
    ),
    Reason.CREDENTIAL_UNSUPPORTED: Words(
        401,
        "SIGN_ERROR",
        "40002",
        "isv.invalid-signature-type",
        "11",
        "this signature algorithm or version is not supported",
    ),
    Reason.NOT_PERMITTED: Words(
        403, "NO_AUTH", "40006", "isv.insufficient-isv-permissions", "32", "not permitted to this caller"
    ),
    Reason.USER_MISSING: Words(
        401, "NO_AUTH", "20001", "aop.invalid-auth-token", "11", "the request carries no user's token"
    ),
    Reason.USER_INVALID: Words(
        401, "NO_AUTH", "20001", "aop.invalid-auth-token", "11", "the user's token is not valid"
    ),
    Reason.TIMESTAMP_EXPIRED: Words(
        401, "SIGN_ERROR", "40002", "isv.invalid-timestamp", "10", "the timestamp is outside the accepted window"
    ),
    Reason.NONCE_REPLAYED: Words(
        401, "SIGN_ERROR", "40002", "isv.invalid-parameter", "12", "the nonce was used before"
    ),
    Reason.IDEMPOTENCY_KEY_MISSING: Words(
        400, "PARAM_ERROR", "40001", "isv.invalid-parameter", "13", "the Idempotency-Key header is required here"
    ),
    Reason.IDEMPOTENCY_KEY_INVALID: Words(
        400,
        "PARAM_ERROR",
        "40002",
        "isv.invalid-parameter",
        "10",
        "the Idempotency-Key header is not one quoted string of 1 to 255 characters",
    ),
    Reason.ORDER_IN_PROGRESS: Words(
        409,
        "SYSTEM_ERROR",
        "20000",
        "aop.ACQ.SYSTEM_ERROR",
        "04",
        "the first attempt is in progress: query the order, or retry later",
    ),
    Reason.ORDER_CONFLICT: Words(
        422,
        "OUT_TRADE_NO_USED",
        "40004",
        "ACQ.CONTEXT_INCONSISTENT",
        "12",
        "this order number or idempotency key was used with other content",
    ),
    Reason.ORDER_UNKNOWN: Words(
        404, "ORDER_NOT_EXIST", "40004", "ACQ.TRADE_NOT_EXIST", "34", "the order never passed here"
    ),
    Reason.ORDER_PAID: Words(
        400, "ORDERPAID", "40004", "ACQ.TRADE_HAS_SUCCESS", "12", "the order is paid already: query it"
    ),
    Reason.ORDER_CLOSED: Words(400, "ORDER_CLOSED", "40004", "ACQ.TRADE_HAS_CLOSE", "12", "the order was closed"),
    Reason.ORDER_MISMATCH: Words(409, "PARAM_ERROR", "40004", "ACQ.CONTEXT_INCONSISTENT", "12", "not what was ordered"),
    Reason.RATE_LIMITED: Words(
        429, "FREQUENCY_LIMITED", "40005", "isv.app-call-limited", "02", "too many requests; retry later"
    ),
    Reason.BODY_MALFORMED: Words(
        400, "PARAM_ERROR", "40002", "isv.invalid-parameter", "10", "the body is not acceptable"
    ),
    Reason.BODY_DUPLICATE_KEY: Words(
        400, "PARAM_ERROR", "40002", "isv.invalid-parameter", "10", "the body has a duplicate key"
    ),
    Reason.BODY_TOO_LARGE: Words(413, "PARAM_ERROR", "40002", "isv.invalid-parameter", "10", "the body is too large"),
    Reason.CONTENT_UNSUPPORTED: Words(
        415,
        "PARAM_ERROR",
        "40002",
        "isv.invalid-parameter",
        "10",
        "this content type, content encoding or encryption is not read here",
    ),
    Reason.FIELD_INVALID: Words(
        400, "PARAM_ERROR", "40002", "isv.invalid-parameter", "13", "a field is missing or not valid"
    ),
    Reason.CHANNEL_NONE: Words(403, "NO_AUTH", "40004", "ACQ.ACCESS_FORBIDDEN", "32", "no channel takes this payment"),
    Reason.UNAVAILABLE: Words(
        503,
        "SYSTEM_ERROR",
        "20000",
        "isp.unknow-error",
        "02",
        "not processed: the gateway cannot decide now; retry later",
    ),
}


OUTCOME_UNKNOWN = "outcome_unknown"
"""Said where money may have moved and nobody here can tell; not a refusal, so no `Reason`."""
OUTCOME_UNKNOWN_WORDS = Words(
    504,
    "SYSTEM_ERROR",
    "20000",
    "aop.ACQ.SYSTEM_ERROR",
    "04",
    "the outcome is unknown: query the order before trying again",
)
ANSWER_WITHHELD = "answer_withheld"
"""The service answered, and what must not be shown of it could not be hidden. Said where no money moves."""
ANSWER_WITHHELD_WORDS = Words(
    502,
    "SYSTEM_ERROR",
    "20000",
    "isp.unknow-error",
    "02",
    "the service's answer cannot be shown: what must be hidden of it could not be found",
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer. `headers` have lower-case names."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Addressee:
    """Whom a refusal is written to, as far as is known when it is written."""

    protocol: Protocol
    request_id: str
    signers: Mapping[Protocol, Signer]
    alipay_method: str | None = None
    """Alipay v2's `method`, one that the policy knows: the answer's first key is made of it."""
    alipay_certificates: bool = False
    """Whether the caller is in certificate mode: others cannot read an answer with `alipay_cert_sn`."""


def protocol_of(route: Route | None, path: str) -> Protocol:
    """The caller's protocol: the route's, or the best guess from a path that belongs to none."""
    if route is not None:
        return route.protocol
    if path.startswith("/v3/alipay/"):
        return Protocol.ALIPAY_V3
    if path.startswith("/v3/"):
        return Protocol.WECHAT_V3
    return Protocol.ALIPAY_V2 if path == "/gateway.do" else Protocol.PAYMESH


def known_method(route: Route | None, request: Request, verified: Mapping[str, str]) -> str | None:
    """Alipay v2's `method` if the policy names it: nobody else's text comes into an answer."""
    if route is None or route.protocol is not Protocol.ALIPAY_V2:
        return None
    known = {value for one in (*route.variants, route) for name, value in one.signed_parameters if name == "method"}
    # A form body is not read again for this: SDKs send `method` in the query.
    method = verified.get("method") or query_parameters(request.query).get("method", "")
    return method if method in known else None


def words_of(reason: Reason) -> Words:
    """How a reason is said, in every vocabulary."""
    return _WORDS[reason]


def write_refusal(denial: Denial, to: Addressee) -> Refusal:
    """The refusal as the caller's SDK reads it."""
    words = words_of(denial.reason)
    message = ": ".join((words.message, *(["; ".join(denial.told)] if denial.told else [])))
    if denial.hint is not None:
        message = f"{message}; this should have been signed: {denial.hint}"
    refusal = write_words(words, str(denial.reason), message, to, repeats=denial.hint is None)
    if denial.retry_after_s is None:
        return refusal
    again = [("retry-after", str(denial.retry_after_s))]
    if denial.limit is not None:
        again += _rate_limit_headers(denial.limit, denial.retry_after_s)
    return replace(refusal, headers=(*refusal.headers, *again))


def _rate_limit_headers(limit: LimitTold, retry_after_s: int) -> list[tuple[str, str]]:
    """Source: draft-ietf-httpapi-ratelimit-headers, sections 3 and 4: r remaining, t seconds; q quota, w window, which
    is optional."""
    policy = {"q": limit.quota} if limit.window_s is None else {"q": limit.quota, "w": limit.window_s}
    return [
        ("ratelimit", http_sf.ser([(limit.name, {"r": 0, "t": retry_after_s})])),  # type: ignore[list-item]
        ("ratelimit-policy", http_sf.ser([(limit.name, policy)])),  # type: ignore[list-item]
    ]


def write_words(words: Words, reason: str, message: str, to: Addressee, *, repeats: bool = True) -> Refusal:
    """An answer in the addressee's protocol. `repeats`: the same text will be said again, so its signature is kept."""
    status, content_type, body = _WRITERS[to.protocol](_Said(words, reason, message, to, repeats))
    headers = (("content-type", content_type), (REASON_HEADER, reason), (REQUEST_ID_HEADER, to.request_id))
    return Refusal(status, headers, body)


@dataclass(frozen=True, slots=True)
class _Said:
    words: Words
    reason: str
    message: str
    to: Addressee
    repeats: bool

    def sign(self, text: bytes, signer: Signer) -> str:
        return signer.sign_once(text) if self.repeats else signer.sign(text)


Written = tuple[int, str, bytes]
"""Status, content type, body."""


def _paymesh(said: _Said) -> Written:
    return said.words.status, JSON_TYPE, _json({"code": said.reason, "message": said.message})


def _wechat(said: _Said) -> Written:
    return said.words.status, JSON_TYPE, _json({"code": said.words.wechat_code, "message": said.message})


def _wechat_notification(said: _Said) -> Written:
    return said.words.status, JSON_TYPE, _json({"code": "FAIL", "message": said.message})


def _alipay_v3(said: _Said) -> Written:
    # As the v2 sub_code, without the prefix that says who is at fault; trade's own codes keep theirs.
    code = said.words.sub_code.removeprefix("isv.").removeprefix("isp.").removeprefix("aop.")
    return said.words.status, JSON_TYPE, _json({"code": code, "message": said.message})


def _alipay_v2(said: _Said) -> Written:
    """`{"<method>_response":{..},"sign":".."}`: the answer first, since two SDKs look for `sign` after it."""
    method, code = said.to.alipay_method, said.words.alipay_code
    key = b"error_response" if method is None else method.replace(".", "_").encode() + b"_response"
    told = {"code": code, "msg": ALIPAY_MESSAGES[code], "sub_code": said.words.sub_code, "sub_msg": said.message}
    # Plain ASCII: a merchant that asked in gbk reads the answer in gbk.
    answer = json.dumps(told, separators=(",", ":")).encode()
    signer = said.to.signers.get(Protocol.ALIPAY_V2)
    if signer is None:
        return 200, ALIPAY_V2_TYPE, b'{"%s":%s}' % (key, answer)
    named = bool(signer.serial) and said.to.alipay_certificates
    serial = b'"alipay_cert_sn":"%s",' % signer.serial.encode() if named else b""
    sign = said.sign(answer, signer).encode()
    return 200, ALIPAY_V2_TYPE, b'{"%s":%s,%s"sign":"%s"}' % (key, answer, serial, sign)


def _notification_text(said: _Said) -> Written:
    # Whatever is not `success` (Alipay) or 200 (UnionPay) is sent again later.
    return said.words.status, TEXT_TYPE, b"fail"


def _unionpay(said: _Said) -> Written:
    """`k=v&k=v` un-encoded, as UnionPay's SDKs split it; signed by method 01 where there is a key."""
    message = said.message.replace("&", " ")
    fields = {"version": "5.1.0", "encoding": "UTF-8", "respCode": said.words.resp_code, "respMsg": message}
    signer = said.to.signers.get(Protocol.UNIONPAY)
    if signer is not None:
        fields |= {"signMethod": "01", "certId": signer.serial, "signPubKeyCert": signer.certificate}
        fields["signature"] = said.sign(unionpay_text(_joined(fields)), signer)
    return 200, UNIONPAY_TYPE, _joined(fields)


_WRITERS: Mapping[Protocol, Callable[[_Said], Written]] = {
    Protocol.PAYMESH: _paymesh,
    Protocol.WECHAT_V3: _wechat,
    Protocol.WECHAT_NOTIFICATION: _wechat_notification,
    Protocol.ALIPAY_V2: _alipay_v2,
    Protocol.ALIPAY_V3: _alipay_v3,
    Protocol.ALIPAY_NOTIFICATION: _notification_text,
    Protocol.UNIONPAY: _unionpay,
    Protocol.UNIONPAY_NOTIFICATION: _notification_text,
}


def _joined(fields: Mapping[str, str]) -> bytes:
    return "&".join(f"{name}={fields[name]}" for name in sorted(fields)).encode("utf-8", "replace")


def _json(members: Mapping[str, str]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
