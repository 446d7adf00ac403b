"""Owns Alipay v2 as a channel: `gateway.do`, RSA2, utf-8. Refuses an answer whose raw text Alipay did not sign.

Source: protocols.md section 1; Alipay's open documentation of alipay.trade.precreate, .pay, .query, .refund and .close
(opendocs.alipay.com/open). Amounts are yuan with two decimals. An answer carries neither time nor nonce: that it is
Alipay's word of now is TLS's affair, that it is about this order is checked here.
"""

from __future__ import annotations

import json
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
from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import JsonDocument, parse_json
from paymesh.payments.bodies.json_edit import find_spans
from paymesh.payments.denial import Denial
from paymesh.payments.money import Money, minor_units_of_decimal
from paymesh.payments.outcome import Outcome, read_outcome
from paymesh.payments.policy.compiled import Operation, Protocol
from paymesh.payments.signed_form import joined

TARGET = "/gateway.do"
MAX_SUBJECT_CHARS = 256
PRECREATE, PAY = "alipay.trade.precreate", "alipay.trade.pay"
_METHODS = {
    Operation.QUERY: "alipay.trade.query",
    Operation.REFUND: "alipay.trade.refund",
    Operation.CLOSE: "alipay.trade.close",
}
_PRODUCTS = {
    "qr": PRECREATE,
    "alipay": PRECREATE,
    "alipay_qr": PRECREATE,
    "auth_code": PAY,
    "alipay_auth_code": PAY,
}
_TIME = "%Y-%m-%d %H:%M:%S"
_ENDING, _ERROR = "_response", "error_response"
_UNSIGNED = frozenset({"sign"})
_ORDER_NO = re.compile(r"[0-9A-Za-z_]{1,64}", re.ASCII)
_AUTH_CODE = re.compile(rb"(?:2[5-9]|30)[0-9]{14,22}")


_CAPABILITIES = Capabilities(
    frozenset({Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE}), _PRODUCTS, frozenset({"CNY"})
)


@dataclass(frozen=True, slots=True)
class AlipayV2Adapter:
    name: str = "alipay_v2"
    capabilities: Capabilities = _CAPABILITIES

    def identity_problems(self, identity: ChannelIdentity) -> tuple[str, ...]:
        return required(
            account=bool(identity.account),
            signer=identity.signer is not None,
            provider_keys=any(identity.provider_keys.values()),
            # Both or neither: one alone is refused by Alipay.
            root_serial=bool(identity.root_serial) or not identity.serial,
        )

    def problems(self, order: GenericOrder, identity: ChannelIdentity) -> tuple[str, ...]:  # noqa: ARG002
        method = _PRODUCTS.get(order.product or "")
        found = [*_number_problems("/order_no", order.order_no), *_money_problems(order.money)]
        if method is None:
            found.append(f"/product: is none of {', '.join(_PRODUCTS)}")
        if not 0 < len(order.subject) <= MAX_SUBJECT_CHARS:
            found.append(f"/subject: is required, at most {MAX_SUBJECT_CHARS} characters")
        code = b"" if order.auth_code is None else order.auth_code.reveal()
        if method == PAY and not _AUTH_CODE.fullmatch(code):
            found.append("/auth_code: is required for this product, 16 to 24 digits that begin with 25 to 30")
        return tuple(found)

    def write_pay(self, order: GenericOrder, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = self.problems(order, identity)
        if problems:
            return lacking(problems)
        content: dict[str, object] = {
            "out_trade_no": order.order_no,
            "total_amount": yuan(order.money),
            "subject": order.subject,
        }
        if order.expires_at_s is not None:
            content["time_expire"] = china_text(order.expires_at_s, _TIME)
        method = _PRODUCTS[order.product or ""]
        if method == PAY:
            assert order.auth_code is not None  # one of the problems
            content |= {"auth_code": order.auth_code.reveal().decode(), "scene": "bar_code"}
        return _call(method, content, identity, stamp, identity.notified_at(order.notify_url))

    def write_query(self, query: GenericQuery, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = _number_problems("/order_no", query.order_no)
        if problems:
            return lacking(problems)
        return _call(_METHODS[Operation.QUERY], {"out_trade_no": query.order_no}, identity, stamp)

    def write_refund(self, refund: GenericRefund, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = (
            *_number_problems("/order_no", refund.order_no),
            *_number_problems("/refund_no", refund.refund_no),
            *_money_problems(refund.money),
        )
        if problems:
            return lacking(problems)
        content: dict[str, object] = {
            "out_trade_no": refund.order_no,
            "refund_amount": yuan(refund.money),
            # Its own number: without it a second refund of the same amount would be taken for the first one again.
            "out_request_no": refund.refund_no,
        }
        if refund.reason:
            content["refund_reason"] = refund.reason
        return _call(_METHODS[Operation.REFUND], content, identity, stamp)

    def write_close(self, close: GenericClose, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = _number_problems("/order_no", close.order_no)
        if problems:
            return lacking(problems)
        return _call(_METHODS[Operation.CLOSE], {"out_trade_no": close.order_no}, identity, stamp)

    def read_answer(
        self,
        expected: Expected,
        status: int,
        headers: Mapping[str, str],  # noqa: ARG002 - everything stands in the body
        body: bytes,
        identity: ChannelIdentity,
        stamp: Stamp,
    ) -> ChannelAnswer:
        told = _verified(expected, body, identity, stamp.now_s)
        if isinstance(told, str):
            return unanswered(expected, f"{status}, {told}")
        other = _about_another(expected, told)
        if other is not None:
            return unanswered(expected, other)
        reading = read_outcome(Protocol.ALIPAY_V2, expected.operation, status, body)
        went_wrong = reading.outcome in (Outcome.REFUSED, Outcome.UNKNOWN)
        return answer(
            expected,
            reading,
            code_url=text(told.get("qr_code")),
            channel_order_no=text(told.get("trade_no")),
            amount=_amount(expected, told),
            code=(text(told.get("sub_code")) or text(told.get("code"))) if went_wrong else None,
            message=(text(told.get("sub_msg")) or text(told.get("msg"))) if went_wrong else None,
        )


ALIPAY_V2 = AlipayV2Adapter()


def yuan(money: Money) -> str:
    """Fen as yuan with two decimals, in whole numbers all the way."""
    return f"{money.amount // 100}.{money.amount % 100:02}"


def _call(
    method: str, content: Mapping[str, object], identity: ChannelIdentity, stamp: Stamp, notify_url: str = ""
) -> UpstreamRequest:
    parameters = {
        "app_id": identity.account,
        "method": method,
        "format": "JSON",
        "charset": "utf-8",
        "sign_type": "RSA2",
        "timestamp": china_text(stamp.now_s, _TIME),
        "version": "1.0",
        "app_cert_sn": identity.serial,
        "alipay_root_cert_sn": identity.root_serial,
        "notify_url": notify_url,
        "biz_content": json.dumps(content, ensure_ascii=False, separators=(",", ":")),
    }
    encoded = {name: value.encode() for name, value in parameters.items() if value}
    encoded["sign"] = identity.sign(joined(encoded, _UNSIGNED)).encode()
    body = "&".join(f"{name}={quote_plus(value)}" for name, value in encoded.items())
    return UpstreamRequest(
        "POST", TARGET, {"content-type": "application/x-www-form-urlencoded;charset=utf-8"}, body.encode("ascii")
    )


def _verified(expected: Expected, body: bytes, identity: ChannelIdentity, now_s: int) -> Mapping[str, object] | str:
    """The answer's object once its text was found to be signed, or why it is not believed."""
    try:
        document = parse_json(body, object_only=True)
    except BodyError as error:
        return f"but the answer is not readable ({error.kind})"
    assert isinstance(document.value, dict)  # object_only
    names = [name for name in document.value if name.endswith(_ENDING)]
    method = _METHODS.get(expected.operation) or _PRODUCTS.get(expected.product or "", "")
    if names not in ([_ERROR], [method.replace(".", "_") + _ENDING]):
        return "but the answer is none to this call"
    told, sign, serial = document.value[names[0]], document.value.get("sign"), document.value.get("alipay_cert_sn", "")
    if not isinstance(told, dict) or not isinstance(sign, str) or not isinstance(serial, str):
        return "but the answer is not signed"
    keys = (*identity.keys_named(serial), *(identity.keys_named("") if serial else ()))
    if not signed_by(keys, sign, _raw(document, names[0]), now_s):
        return "but the answer is not signed by Alipay"
    return told


def _raw(document: JsonDocument, name: str) -> bytes:
    """A member's value as it stands in the text: its braces are signed, its white space too."""
    span = find_spans(document, [(name,)])[(name,)]
    return document.text[span.value_start : span.value_end].encode()


def _about_another(expected: Expected, told: Mapping[str, object]) -> str | None:
    """What an answer says that another order's would; None if it is about the expected one."""
    number, code = told.get("out_trade_no"), told.get("code")
    # A failure may leave the number out; a success never does.
    if number != expected.order_no and (number is not None or code == "10000"):
        return "the answer is about another order"
    stated = told.get("total_amount")
    if stated is None or expected.money is None or expected.operation is Operation.REFUND:
        return None
    try:
        same = minor_units_of_decimal(str(stated), expected.money.currency) == expected.money.amount
    except ValueError:
        same = False
    return None if same else "the answer tells another amount"


def _amount(expected: Expected, told: Mapping[str, object]) -> dict[str, object] | None:
    """The order's amount, in answers to queries."""
    if expected.operation is not Operation.QUERY or not isinstance(told.get("total_amount"), str):
        return None
    try:
        return {"total": minor_units_of_decimal(str(told["total_amount"]), "CNY"), "currency": "CNY"}
    except ValueError:
        return None


def _number_problems(field: str, number: str) -> tuple[str, ...]:
    if _ORDER_NO.fullmatch(number):
        return ()
    return (f"{field}: Alipay takes 1 to 64 letters, digits and underscores",)


def _money_problems(money: Money) -> tuple[str, ...]:
    return () if money.currency == "CNY" else ("/amount/currency: this channel takes CNY only",)
