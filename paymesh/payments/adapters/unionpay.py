"""Owns UnionPay 5.1.0 as a channel: QR codes (both ways) and the app, signed with a certificate (`signMethod` 01).

Refuses an answer whose certificate does not come from a trusted authority, or that could be read in two ways. Source:
protocols.md section 1; UnionPay's open platform (open.unionpay.com), "QR code payment" and "app payment", and its own
demo for what a text may hold. Amounts are whole fen. UnionPay knows an order by `orderId` and `txnTime` together, so a
repeat and a query carry the first attempt's time. It cannot close what is not paid (`payTimeout` ends it): close is
its `31`, which takes back a payment of the same day.
"""

# ruff: noqa: ARG002 - its messages carry the order's own time and nothing random, so no `stamp` is used
from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus

from paymesh.payments.adapters.china_clock import china_text
from paymesh.payments.adapters.contract import (
    Capabilities,
    ChannelAnswer,
    ChannelIdentity,
    Expected,
    GenericClose,
    GenericOrder,
    GenericQuery,
    GenericRefund,
    Stamp,
    UpstreamRequest,
    answer,
    lacking,
    required,
    signed_by,
    text,
    unanswered,
)
from paymesh.payments.credentials.claim import decode_base64
from paymesh.payments.credentials.verifiers import RsaSha256
from paymesh.payments.denial import Denial
from paymesh.payments.money import Money, alphabetic_code
from paymesh.payments.outcome import Outcome, read_outcome
from paymesh.payments.policy.compiled import Operation, Protocol
from paymesh.payments.signed_form import FormError, check_one_reading, deciding, joined
from paymesh.payments.signers import unionpay_text

BACK, APP, QUERY = (f"/gateway/api/{name}.do" for name in ("backTransReq", "appTransReq", "queryTrans"))
_TIME = "%Y%m%d%H%M%S"
_CNY = "156"
_FORM = "application/x-www-form-urlencoded;charset=UTF-8"
_MAX_FIELDS, _MAX_BODY_BYTES = 200, 65_536
_MAX_SUBJECT_CHARS, _MAX_URL_CHARS = 128, 256
_UNSIGNED = frozenset({"signature"})
_FULL_WIDTH = str.maketrans("&={}[]", "＆＝｛｝［］")
"""UnionPay's messages are not encoded, and its own demo advises full-width letters for a text that people read."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How a product is paid: where the message goes, and what it says beside the order."""

    target: str
    sub_type: str
    business: str


_SCANNED, _SCANS, _IN_APP = "qr", "auth_code", "app"
_WAYS = {
    _SCANNED: _Way(BACK, "07", "000000"),
    _SCANS: _Way(BACK, "06", "000000"),
    _IN_APP: _Way(APP, "01", "000201"),
}
_PRODUCTS = {
    "qr": _SCANNED,
    "unionpay": _SCANNED,
    "unionpay_qr": _SCANNED,
    "auth_code": _SCANS,
    "unionpay_auth_code": _SCANS,
    "app": _IN_APP,
    "unionpay_app": _IN_APP,
}
_TYPES = {Operation.PAY: "01", Operation.QUERY: "00", Operation.REFUND: "04", Operation.CLOSE: "31"}
_ORDER_NO = re.compile(r"[0-9A-Za-z]{8,40}", re.ASCII)
_UNREAD = frozenset({"10", "11", "13"})
"""The message's format, its signature, a field that is missing."""
_QUERY_ID = re.compile(r"[0-9]{1,40}", re.ASCII)
_AUTH_CODE = re.compile(rb"62[0-9]{17}")
_DECIDING = deciding(
    "currencyCode", "merId", "orderId", "origRespCode", "qrCode", "queryId", "respCode", "tn", "txnAmt", "txnType"
)


_CAPABILITIES = Capabilities(
    frozenset({Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE}), _PRODUCTS, frozenset({"CNY"})
)


@dataclass(frozen=True, slots=True)
class UnionpayAdapter:
    name: str = "unionpay"
    capabilities: Capabilities = _CAPABILITIES

    def identity_problems(self, identity: ChannelIdentity) -> tuple[str, ...]:
        return required(
            account=bool(identity.account),
            signer=bool(identity.serial),
            trust=identity.trust is not None or any(identity.provider_keys.values()),
        )

    def problems(self, order: GenericOrder, identity: ChannelIdentity) -> tuple[str, ...]:
        product = _PRODUCTS.get(order.product or "")
        notify_url = identity.notified_at(order.notify_url)
        found = [*_number_problems("/order_no", order.order_no), *_money_problems(order.money)]
        if product is None:
            found.append(f"/product: is none of {', '.join(_PRODUCTS)}")
        if len(order.subject) > _MAX_SUBJECT_CHARS:
            found.append(f"/subject: is longer than {_MAX_SUBJECT_CHARS} characters")
        if not notify_url.startswith(("https://", "http://")) or len(notify_url) > _MAX_URL_CHARS:
            found.append(f"/notify_url: is required, a URL of at most {_MAX_URL_CHARS} characters")
        code = b"" if order.auth_code is None else order.auth_code.reveal()
        if product == _SCANS and not _AUTH_CODE.fullmatch(code):
            found.append("/auth_code: is required for this product, 19 digits that begin with 62")
        return tuple(found)

    def write_pay(self, order: GenericOrder, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = self.problems(order, identity)
        if problems:
            return lacking(problems)
        product = _PRODUCTS[order.product or ""]
        way = _WAYS[product]
        fields = {
            "txnSubType": way.sub_type,
            "bizType": way.business,
            "orderId": order.order_no,
            "txnTime": china_text(order.begun_at_s, _TIME),
            "txnAmt": str(order.money.amount),
            "currencyCode": _CNY,
            "backUrl": identity.notified_at(order.notify_url),
        }
        if order.subject:
            fields["riskRateInfo"] = f"{{commodityName={order.subject.translate(_FULL_WIDTH)}}}"
        if order.expires_at_s is not None:
            fields["payTimeout"] = china_text(order.expires_at_s, _TIME)
        if product == _SCANS:
            assert order.auth_code is not None  # one of the problems
            fields["qrNo"] = order.auth_code.reveal().decode()
        return _message(Operation.PAY, fields, identity, way.target)

    def write_query(self, query: GenericQuery, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = _number_problems("/order_no", query.order_no)
        if problems:
            return lacking(problems)
        fields = {
            "txnSubType": "00",
            "bizType": "000000",
            "orderId": query.order_no,
            "txnTime": china_text(query.begun_at_s, _TIME),
        }
        return _message(Operation.QUERY, fields, identity, QUERY)

    def write_refund(self, refund: GenericRefund, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = [*_number_problems("/refund_no", refund.refund_no), *_money_problems(refund.money)]
        problems += _original_problems(refund.channel_order_no)
        if problems:
            return lacking(tuple(problems))
        fields = _back(refund.refund_no, refund.channel_order_no or "", refund.money, refund.begun_at_s)
        if notify_url := identity.notified_at(refund.notify_url):
            fields["backUrl"] = notify_url
        return _message(Operation.REFUND, fields, identity, BACK)

    def write_close(self, close: GenericClose, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = [*_number_problems("/order_no", close.order_no), *_original_problems(close.channel_order_no)]
        if close.money is None:
            problems.append("the order's amount: UnionPay wants it to take a payment back, and it is not known here")
        if problems or close.money is None:
            return lacking(tuple(problems))
        fields = _back(_closing_number(close.order_no), close.channel_order_no or "", close.money, close.begun_at_s)
        if identity.notify_url:
            fields["backUrl"] = identity.notify_url
        return _message(Operation.CLOSE, fields, identity, BACK)

    def read_answer(
        self,
        expected: Expected,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        identity: ChannelIdentity,
        stamp: Stamp,
    ) -> ChannelAnswer:
        told = _verified(body, identity, stamp.now_s)
        if isinstance(told, str):
            return unanswered(expected, f"{status}, {told}")
        other = _about_another(expected, identity, told)
        if other is not None:
            return unanswered(expected, other)
        reading = read_outcome(Protocol.UNIONPAY, expected.operation, status, body)
        went_wrong = reading.outcome in (Outcome.REFUSED, Outcome.UNKNOWN)
        return answer(
            expected,
            reading,
            code_url=text(told.get("qrCode")),
            pay_parameters={"tn": told["tn"]} if told.get("tn") else None,
            channel_order_no=text(told.get("queryId")),
            amount=_amount(expected, told),
            code=(told.get("origRespCode") or told.get("respCode")) if went_wrong else None,
            message=(told.get("origRespMsg") or told.get("respMsg")) if went_wrong else None,
        )


UNIONPAY = UnionpayAdapter()


def _message(
    operation: Operation, fields: Mapping[str, str], identity: ChannelIdentity, target: str
) -> UpstreamRequest:
    filled = {
        "version": "5.1.0",
        "encoding": "UTF-8",
        "signMethod": "01",
        "certId": identity.serial,
        "txnType": _TYPES[operation],
        "channelType": "08",
        "accessType": "0",
        "merId": identity.account,
        **fields,
    }
    encoded = {name: value.encode() for name, value in filled.items()}
    digest = unionpay_text(joined(encoded, _UNSIGNED, keep_empty=True))
    encoded["signature"] = identity.sign(digest).encode()
    body = "&".join(f"{name}={quote_plus(value)}" for name, value in encoded.items())
    return UpstreamRequest("POST", target, {"content-type": _FORM}, body.encode("ascii"))


def _back(number: str, original: str, money: Money, begun_at_s: int) -> dict[str, str]:
    """What a refund and a taking back say: a number and time of their own, and the payment by UnionPay's number."""
    return {
        "txnSubType": "00",
        "bizType": "000000",
        "orderId": number,
        "origQryId": original,
        "txnTime": china_text(begun_at_s, _TIME),
        "txnAmt": str(money.amount),
        "currencyCode": _CNY,
    }


def _closing_number(order_no: str) -> str:
    """The number of an order's taking back: made of the order's, so that a repeat is the same one."""
    return hashlib.sha256(f"close {order_no}".encode()).hexdigest()[:32]


def _verified(body: bytes, identity: ChannelIdentity, now_s: int) -> Mapping[str, str] | str:
    """The answer's fields once they were found to be signed, or why they are not believed."""
    try:
        fields = _split(body)
        written = {name: value.encode() for name, value in fields.items()}
        covered = joined(written, _UNSIGNED, keep_empty=True)
        check_one_reading(covered, written, _DECIDING)
    except (FormError, UnicodeDecodeError):
        return "but the answer is no message of UnionPay's"
    signature = decode_base64(fields.get("signature", ""))
    if not signature or fields.get("version") != "5.1.0" or fields.get("signMethod") != "01":
        return "but the answer is not signed by method 01"
    digest = unionpay_text(covered)
    if signed_by(identity.keys_named(fields.get("certId", "")), fields["signature"], digest, now_s):
        return fields
    presented = fields.get("signPubKeyCert", "")
    trusted = identity.trust.key_of(presented.encode()) if identity.trust is not None and presented else None
    if trusted is None or not trusted.valid_from_s <= now_s <= trusted.valid_until_s:
        return "but the answer's certificate is not trusted"
    return fields if RsaSha256(trusted.key).verifies(signature, digest) else "but the answer is not signed by UnionPay"


def _split(body: bytes) -> Mapping[str, str]:
    """The fields of `k=v&k=v`, nothing encoded; a value in braces or brackets may hold `&`. Raises FormError."""
    if len(body) > _MAX_BODY_BYTES:
        raise FormError("the answer is too long")
    written = body.decode("utf-8").strip("\r\n ")
    found: dict[str, str] = {}
    depth = start = 0
    for at, character in enumerate(f"{written}&"):
        depth += (character in "{[") - (character in "}]")
        if character != "&" or (depth > 0 and at < len(written)):
            continue
        name, equals, value = written[start:at].partition("=")
        start = at + 1
        if not equals or not name.isascii() or not name.isalnum() or name in found or len(found) >= _MAX_FIELDS:
            raise FormError("a part of the answer is no field, or stands there twice")
        found[name] = value
    return found


def _about_another(expected: Expected, identity: ChannelIdentity, told: Mapping[str, str]) -> str | None:
    """What an answer says that another order's would; None if it is about the expected one."""
    number = {
        Operation.REFUND: expected.refund_no,
        Operation.CLOSE: _closing_number(expected.order_no),
    }.get(expected.operation, expected.order_no)
    ours = {"merId": identity.account, "orderId": number, "txnType": _TYPES[expected.operation]}
    # Only a message that UnionPay could not read is answered without its fields.
    unread = told.get("respCode") in _UNREAD
    for name, value in ours.items():
        if told.get(name) != value and not (unread and name not in told):
            return f"the answer is about another order ({name})"
    if expected.money is None or "txnAmt" not in told:
        return None
    same = told["txnAmt"] == str(expected.money.amount) and told.get("currencyCode", _CNY) == _CNY
    return None if same else "the answer tells another amount"


def _amount(expected: Expected, told: Mapping[str, str]) -> dict[str, object] | None:
    """The order's amount, in answers to queries."""
    written = told.get("txnAmt", "")
    if expected.operation is not Operation.QUERY or not _QUERY_ID.fullmatch(written):
        return None
    return {"total": int(written), "currency": alphabetic_code(told.get("currencyCode", _CNY))}


def _number_problems(field: str, number: str) -> tuple[str, ...]:
    return () if _ORDER_NO.fullmatch(number) else (f"{field}: UnionPay takes 8 to 40 letters and digits",)


def _original_problems(number: str | None) -> tuple[str, ...]:
    if number is not None and _QUERY_ID.fullmatch(number):
        return ()
    return ("channel_order_no: UnionPay names the payment by its own number: query the order first",)


def _money_problems(money: Money) -> tuple[str, ...]:
    return () if money.currency == "CNY" else ("/amount/currency: this channel takes CNY only",)
