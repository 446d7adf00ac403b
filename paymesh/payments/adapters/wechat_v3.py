"""Owns WeChat Pay v3 as a channel, for a merchant of its own (`mchid`). Refuses answers that it did not sign.

Source: protocols.md section 1; WeChat Pay's merchant documentation (pay.weixin.qq.com/doc/v3/merchant): native, JSAPI,
APP and H5 orders, "query an order by out_trade_no", "close an order", "domestic refunds", "calling up the payment"
(paySign). Amounts are whole fen. Errors of WeChat Pay that it does not sign are not believed either.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

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
from paymesh.payments.bodies.json_body import MISSING, lookup, parse_json
from paymesh.payments.credentials.claim import is_nonce, parse_timestamp
from paymesh.payments.credentials.wechat_v3 import AUTHORIZATION_TYPE, WINDOW_S
from paymesh.payments.denial import Denial
from paymesh.payments.money import Money
from paymesh.payments.outcome import read_outcome
from paymesh.payments.policy.compile_credentials import normalize_serial
from paymesh.payments.policy.compiled import Operation, Protocol

ORDERS, REFUNDS = "/v3/pay/transactions", "/v3/refund/domestic/refunds"
NATIVE, JSAPI, APP, H5 = "native", "jsapi", "app", "h5"
MAX_DESCRIPTION_CHARS, MAX_URL_CHARS, MAX_REASON_CHARS = 127, 255, 80
_PRODUCTS = {
    "qr": NATIVE,
    "wechat_qr": NATIVE,
    NATIVE: NATIVE,
    JSAPI: JSAPI,
    "wechat_jsapi": JSAPI,
    APP: APP,
    "wechat_app": APP,
    H5: H5,
    "wechat_h5": H5,
}
_ORDER_NO = re.compile(r"[0-9A-Za-z_\-|*]{6,32}", re.ASCII)
_REFUND_NO = re.compile(r"[0-9A-Za-z_\-|*@]{1,64}", re.ASCII)
_OPENID = re.compile(rb"[!-~]{1,128}")
_CURRENCIES = frozenset({"CNY"})


_CAPABILITIES = Capabilities(
    frozenset({Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE}), _PRODUCTS, _CURRENCIES
)


@dataclass(frozen=True, slots=True)
class WechatV3Adapter:
    name: str = "wechat_v3"
    capabilities: Capabilities = _CAPABILITIES

    def identity_problems(self, identity: ChannelIdentity) -> tuple[str, ...]:
        return required(
            account=bool(identity.account),
            app_id=bool(identity.app_id),
            signer=bool(identity.serial),
            provider_keys=any(identity.provider_keys.values()),
        )

    def problems(self, order: GenericOrder, identity: ChannelIdentity) -> tuple[str, ...]:
        product = _PRODUCTS.get(order.product or "")
        notify_url = identity.notified_at(order.notify_url)
        found = [*_number_problems(order.order_no), *_money_problems(order.money)]
        if product is None:
            found.append(f"/product: is none of {', '.join(_PRODUCTS)}")
        if not 0 < len(order.subject) <= MAX_DESCRIPTION_CHARS:
            found.append(f"/subject: is required, at most {MAX_DESCRIPTION_CHARS} characters")
        if not notify_url.startswith(("https://", "http://")) or len(notify_url) > MAX_URL_CHARS:
            found.append(f"/notify_url: is required, a URL of at most {MAX_URL_CHARS} characters")
        openid = b"" if order.payer_id is None else order.payer_id.reveal()
        if product == JSAPI and not _OPENID.fullmatch(openid):
            found.append("/payer/id: is required for this product, the payer's openid")
        if product == H5 and not _is_address(order.client_ip):
            found.append("client_ip: is required for this product, the payer's IP address")
        return tuple(found)

    def write_pay(self, order: GenericOrder, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = self.problems(order, identity)
        if problems:
            return lacking(problems)
        product = _PRODUCTS[order.product or ""]
        document: dict[str, object] = {
            "appid": identity.app_id,
            "mchid": identity.account,
            "description": order.subject,
            "out_trade_no": order.order_no,
            "notify_url": identity.notified_at(order.notify_url),
            "amount": _amount(order.money),
        }
        if order.expires_at_s is not None:
            document["time_expire"] = china_text(order.expires_at_s, "%Y-%m-%dT%H:%M:%S+08:00")
        if product == JSAPI:
            assert order.payer_id is not None  # one of the problems
            document["payer"] = {"openid": order.payer_id.reveal().decode()}
        if product == H5:
            document["scene_info"] = {"payer_client_ip": order.client_ip, "h5_info": {"type": "Wap"}}
        return _signed("POST", f"{ORDERS}/{product}", document, identity, stamp)

    def write_query(self, query: GenericQuery, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = _number_problems(query.order_no)
        if problems:
            return lacking(problems)
        target = f"{ORDERS}/out-trade-no/{_path(query.order_no)}?mchid={identity.account}"
        return _signed("GET", target, None, identity, stamp)

    def write_refund(self, refund: GenericRefund, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = [*_number_problems(refund.order_no), *_money_problems(refund.money)]
        if not _REFUND_NO.fullmatch(refund.refund_no):
            problems.append("/refund_no: WeChat Pay takes 1 to 64 letters, digits and _-|*@")
        if refund.paid is None:
            problems.append("the order's amount: WeChat Pay wants it with a refund, and it is not known here")
        if len(refund.reason.encode()) > MAX_REASON_CHARS:
            problems.append(f"/reason: is longer than {MAX_REASON_CHARS} bytes")
        if problems or refund.paid is None:
            return lacking(tuple(problems))
        amount = {
            "refund": refund.money.amount,
            "total": refund.paid.amount,
            "currency": refund.money.currency,
        }
        document: dict[str, object] = {
            "out_trade_no": refund.order_no,
            "out_refund_no": refund.refund_no,
            "amount": amount,
        }
        if refund.reason:
            document["reason"] = refund.reason
        if notify_url := identity.notified_at(refund.notify_url):
            document["notify_url"] = notify_url
        return _signed("POST", REFUNDS, document, identity, stamp)

    def write_close(self, close: GenericClose, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = _number_problems(close.order_no)
        if problems:
            return lacking(problems)
        target = f"{ORDERS}/out-trade-no/{_path(close.order_no)}/close"
        return _signed("POST", target, {"mchid": identity.account}, identity, stamp)

    def read_answer(
        self,
        expected: Expected,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        identity: ChannelIdentity,
        stamp: Stamp,
    ) -> ChannelAnswer:
        doubt = _doubt(headers, body, identity, stamp.now_s)
        if doubt is not None:
            return unanswered(expected, f"{status}, but {doubt}")
        try:
            told = parse_json(body, object_only=True).value if body else {}
        except BodyError as error:
            return unanswered(expected, f"{status}, but the body is not readable ({error.kind})")
        assert isinstance(told, dict)  # object_only
        other = _about_another(expected, identity, told)
        if other is not None:
            return unanswered(expected, other)
        reading = read_outcome(Protocol.WECHAT_V3, expected.operation, status, body)
        return answer(
            expected,
            reading,
            code_url=text(told.get("code_url")),
            h5_url=text(told.get("h5_url")),
            pay_parameters=_pay_parameters(expected, told, identity, stamp),
            channel_order_no=text(told.get("transaction_id")),
            amount=_told_amount(expected, told),
            code=text(told.get("code")),
            message=text(told.get("message")),
        )


WECHAT_V3 = WechatV3Adapter()


def _signed(
    method: str, target: str, document: Mapping[str, object] | None, identity: ChannelIdentity, stamp: Stamp
) -> UpstreamRequest:
    body = b"" if document is None else json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    # An empty body keeps its line.
    lines = f"{method}\n{target}\n{stamp.now_s}\n{stamp.nonce}\n".encode() + body + b"\n"
    fields = {
        "mchid": identity.account,
        "nonce_str": stamp.nonce,
        "signature": identity.sign(lines),
        "timestamp": str(stamp.now_s),
        "serial_no": identity.serial,
    }
    written = ",".join(f'{name}="{value}"' for name, value in fields.items())
    headers = {"authorization": f"{AUTHORIZATION_TYPE} {written}", "accept": "application/json"}
    if document is not None:
        headers["content-type"] = "application/json"
    return UpstreamRequest(method, target, headers, body)


def _doubt(headers: Mapping[str, str], body: bytes, identity: ChannelIdentity, now_s: int) -> str | None:
    """Why an answer is not WeChat Pay's; None if it is."""
    stamp, nonce, signature, serial = (
        headers.get(f"wechatpay-{name}", "") for name in ("timestamp", "nonce", "signature", "serial")
    )
    at_s = parse_timestamp(stamp)
    if not signature or at_s is None or not is_nonce(nonce):
        return "the answer is not signed"
    if abs(now_s - at_s) > WINDOW_S:
        return "the answer's signature is of another time"
    keys = identity.keys_named(normalize_serial(serial))
    if not signed_by(keys, signature, f"{stamp}\n{nonce}\n".encode() + body + b"\n", now_s):
        return "the answer is not signed by WeChat Pay"
    return None


def _about_another(expected: Expected, identity: ChannelIdentity, told: Mapping[str, object]) -> str | None:
    """What the answer says that another order's would; None if nothing. Orders' answers name no order at all."""
    ours: dict[str, str | None] = {"out_trade_no": expected.order_no, "mchid": identity.account}
    if expected.operation is Operation.REFUND:
        ours["out_refund_no"] = expected.refund_no
    if any(told.get(name, value) != value for name, value in ours.items()):
        return "the answer is about another order"
    if expected.operation is Operation.QUERY and "trade_state" in told and "out_trade_no" not in told:
        return "the answer names no order"
    if expected.operation is Operation.REFUND and "status" in told and "out_refund_no" not in told:
        return "the answer names no refund"
    total = lookup(told, ("amount", "refund" if expected.operation is Operation.REFUND else "total"))
    if total is not MISSING and expected.money is not None and total != expected.money.amount:
        return "the answer tells another amount"
    return None


def _told_amount(expected: Expected, told: Mapping[str, object]) -> object:
    total, currency = lookup(told, ("amount", "total")), lookup(told, ("amount", "currency"))
    if expected.operation is not Operation.QUERY or not isinstance(total, int):
        return None
    return {"total": total, "currency": currency if isinstance(currency, str) else "CNY"}


def _pay_parameters(
    expected: Expected, told: Mapping[str, object], identity: ChannelIdentity, stamp: Stamp
) -> Mapping[str, str] | None:
    """What the payer's device calls WeChat up with, signed by the channel's key, which the merchant does not have."""
    prepay_id, write = told.get("prepay_id"), _CALLED_UP.get(_PRODUCTS.get(expected.product or "", ""))
    return write(str(prepay_id), identity, stamp) if isinstance(prepay_id, str) and write is not None else None


def _jsapi_parameters(prepay_id: str, identity: ChannelIdentity, stamp: Stamp) -> Mapping[str, str]:
    package, at = f"prepay_id={prepay_id}", str(stamp.now_s)
    signed = f"{identity.app_id}\n{at}\n{stamp.nonce}\n{package}\n".encode()
    return {
        "appId": identity.app_id,
        "timeStamp": at,
        "nonceStr": stamp.nonce,
        "package": package,
        "signType": "RSA",
        "paySign": identity.sign(signed),
    }


def _app_parameters(prepay_id: str, identity: ChannelIdentity, stamp: Stamp) -> Mapping[str, str]:
    at = str(stamp.now_s)
    return {
        "appid": identity.app_id,
        "partnerid": identity.account,
        "prepayid": prepay_id,
        "package": "Sign=WXPay",
        "noncestr": stamp.nonce,
        "timestamp": at,
        "sign": identity.sign(f"{identity.app_id}\n{at}\n{stamp.nonce}\n{prepay_id}\n".encode()),
    }


_CALLED_UP: Mapping[str, Callable[[str, ChannelIdentity, Stamp], Mapping[str, str]]] = {
    JSAPI: _jsapi_parameters,
    APP: _app_parameters,
}


def _amount(money: Money) -> dict[str, object]:
    return {"total": money.amount, "currency": money.currency}


def _path(number: str) -> str:
    """As one segment of a path, and so as it is signed: `|` and `*` are allowed in a number."""
    return quote(number, safe="")


def _number_problems(number: str) -> tuple[str, ...]:
    return () if _ORDER_NO.fullmatch(number) else ("/order_no: WeChat Pay takes 6 to 32 letters, digits and _-|*",)


def _money_problems(money: Money) -> tuple[str, ...]:
    if money.currency in _CURRENCIES:
        return ()
    return ("/amount/currency: this channel takes CNY only",)


def _is_address(written: str) -> bool:
    try:
        ipaddress.ip_address(written)
    except ValueError:
        return False
    return True
