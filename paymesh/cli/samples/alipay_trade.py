"""Owns trade's Alipay side: `gateway.do` (v2), the REST API (v3) and Alipay's notifications, on trade's books.

Answers as Alipay does and signs with the platform's key. Behind the gateway it verifies nothing again; as Alipay's
simulator (`simulators.py`) it does.
"""

from __future__ import annotations

import asyncio
import decimal
import email
import functools
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl

from aiohttp import web

from paymesh.cli.demo.alipay_signing import GATEWAY_PATH, AlipayProvider, alipay_time
from paymesh.cli.samples import payer
from paymesh.cli.samples.orders import Books, Conflict, Order

Fields = Mapping[str, object]
_STATUS = {"NOTPAY": "WAIT_BUYER_PAY", "SUCCESS": "TRADE_SUCCESS", "CLOSED": "TRADE_CLOSED"}
_GATEWAY_MESSAGES = {"40002": "Invalid Arguments", "40004": "Business Failed"}


class Failed(Exception):  # noqa: N818 - Alipay's own word
    """Alipay's refusal: `code` of v2, and the sub code, which v3 has as its code."""

    def __init__(self, sub_code: str, message: str, code: str = "40004") -> None:
        super().__init__(message)
        self.sub_code, self.message, self.code = sub_code, message, code


Caller = Callable[[web.Request, Mapping[str, str]], tuple[str, str]]
"""Whose order it is and by which channel, from a call and its parameters. Raises Failed."""


def behind_gateway(request: web.Request, _: Mapping[str, str]) -> tuple[str, str]:
    """Orders belong to `x-pay-merchant`, which nobody but the gateway can write."""
    return request.headers.get("x-pay-merchant", ""), request.headers.get("x-pay-channel", "alipay")


class AlipayTrade:
    """The handlers."""

    def __init__(
        self,
        books: Books,
        keys: Path,
        caller: Caller = behind_gateway,
        begun: Callable[[str, str, str], None] = lambda *_: None,
    ) -> None:
        """`begun` hears merchant, number and subject of every order that comes."""
        self._books = books
        self._keys = keys
        self._caller = caller
        self._begun = begun
        self._operations: dict[str, Callable[[str, str, Fields], Fields]] = {
            "precreate": self._precreate,
            "pay": self._pay,
            "query": self._query,
            "refund": self._refund,
            "close": self._close,
        }

    @functools.cached_property
    def _provider(self) -> AlipayProvider:
        # At first use: whoever runs trade without Alipay needs no such key.
        return AlipayProvider.from_folder(self._keys)

    def install(self, app: web.Application) -> None:
        self.install_gateway(app)
        app.router.add_post("/v3/alipay/trade/{operation}", self._v3)
        app.router.add_post("/notify/alipay", self._notified)

    def install_gateway(self, app: web.Application) -> None:
        """`gateway.do` alone."""
        app.router.add_get(GATEWAY_PATH, self._v2)
        app.router.add_post(GATEWAY_PATH, self._v2)

    async def _v2(self, request: web.Request) -> web.Response:
        parameters = parameters_of(request.query_string, await request.read())
        charset, method = parameters["charset"], parameters.get("method", "")
        try:
            caller = self._caller(request, parameters)
            if not method.startswith("alipay.trade."):
                raise Failed("isv.invalid-method", "no such method", "40002")  # noqa: TRY301
            biz_content = _object(parameters.get("biz_content", ""))
            result = await self._perform(caller, method.removeprefix("alipay.trade."), biz_content)
            document: Fields = {"code": "10000", "msg": "Success", **result}
        except Failed as failed:
            document = {
                "code": failed.code,
                "msg": _GATEWAY_MESSAGES[failed.code],
                "sub_code": failed.sub_code,
                "sub_msg": failed.message,
            }
        answer = self._provider.answer(
            method or "error", document, charset=charset, certificate_mode="app_cert_sn" in parameters
        )
        return web.Response(body=answer, headers={"Content-Type": f"text/html;charset={charset}"})

    async def _v3(self, request: web.Request) -> web.Response:
        try:
            fields = _object(_data(request.headers.get("Content-Type", ""), await request.read()))
            operation = request.match_info["operation"]
            status, document = 200, await self._perform(behind_gateway(request, {}), operation, fields)
        except Failed as failed:
            status, document = 400, {"code": failed.sub_code.removeprefix("isv."), "message": failed.message}
        body = json.dumps(document, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json;charset=UTF-8", **self._provider.sign_v3(body)}
        return web.Response(status=status, body=body, headers=headers)

    async def _perform(self, caller: tuple[str, str], operation: str, fields: Fields) -> Fields:
        perform = self._operations.get(operation)
        if perform is None:
            raise Failed("isv.invalid-method", "no such method", "40002")
        return await asyncio.to_thread(perform, *caller, fields)

    async def _notified(self, request: web.Request) -> web.Response:
        notice = parameters_of("", await request.read())
        merchant, order_no = request.headers.get("x-pay-merchant", ""), notice.get("out_trade_no", "")
        order = await asyncio.to_thread(self._books.find, merchant, order_no)
        if order is None or order.amount != fen(notice.get("total_amount")):
            return web.Response(text="fail")
        if notice.get("trade_status") == "TRADE_SUCCESS":
            await asyncio.to_thread(self._books.pay, merchant, order_no, notice.get("trade_no", ""))
        # Exactly this word: anything else, and Alipay sends it again.
        return web.Response(text="success")

    def _precreate(self, merchant: str, channel: str, fields: Fields) -> Fields:
        order = self._begin(merchant, channel, fields)
        token = hashlib.sha256(f"{merchant} {order.order_no}".encode()).hexdigest()[:16]
        return {"out_trade_no": order.order_no, "qr_code": f"https://qr.alipay.example/{token}"}

    def _pay(self, merchant: str, channel: str, fields: Fields) -> Fields:
        order = self._begin(merchant, channel, fields)
        self._books.pay(merchant, order.order_no, f"{alipay_time():.10}".replace("-", "") + secrets.token_hex(10))
        return {**_trade(self._find(merchant, fields)), "gmt_payment": alipay_time()}

    def _query(self, merchant: str, _: str, fields: Fields) -> Fields:
        order = self._find(merchant, fields)
        return {**_trade(order), "trade_status": _STATUS[order.state], **payer.ALIPAY}

    def _refund(self, merchant: str, _: str, fields: Fields) -> Fields:
        order, amount = self._find(merchant, fields), fen(fields.get("refund_amount"))
        # Without a number of its own a refund is the only one of its order, as Alipay has it.
        number = str(fields.get("out_request_no") or order.order_no)
        refunded = self._books.refund(merchant, order.order_no, number, amount)
        if refunded is None:
            raise Failed("ACQ.TRADE_STATUS_ERROR", "not paid, or less than that was paid")
        return {**_trade(order), "fund_change": "Y", "refund_fee": yuan(refunded)}

    def _close(self, merchant: str, _: str, fields: Fields) -> Fields:
        order = self._find(merchant, fields)
        if not self._books.close_order(merchant, order.order_no):
            raise Failed("ACQ.TRADE_STATUS_ERROR", "paid already")
        return {"out_trade_no": order.order_no}

    def _begin(self, merchant: str, channel: str, fields: Fields) -> Order:
        order_no, amount = str(fields.get("out_trade_no", "")), fen(fields.get("total_amount"))
        if not order_no:
            raise Failed("ACQ.INVALID_PARAMETER", "out_trade_no is missing")
        try:
            order = self._books.begin(merchant, order_no, channel, amount, "CNY")
        except Conflict:
            raise Failed("ACQ.CONTEXT_INCONSISTENT", "the order differs") from None
        self._begun(merchant, order_no, str(fields.get("subject", "")))
        return order

    def _find(self, merchant: str, fields: Fields) -> Order:
        order = self._books.find(merchant, str(fields.get("out_trade_no", "")))
        if order is None:
            raise Failed("ACQ.TRADE_NOT_EXIST", "no such trade")
        return order


def parameters_of(query: str, body: bytes) -> dict[str, str]:
    """The parameters of query and form, decoded with the charset that they name."""
    text = "&".join(part for part in (query, body.decode("ascii", "replace")) if part)
    charset = "gbk" if dict(parse_qsl(text)).get("charset", "").lower() == "gbk" else "utf-8"
    return {**dict(parse_qsl(text, encoding=charset)), "charset": charset}


def fen(amount: object) -> int:
    """Yuan as Alipay writes them ('88.88') in fen. Raises Failed for what is no amount."""
    try:
        found = decimal.Decimal(str(amount)) * 100
    except decimal.InvalidOperation:
        raise Failed("ACQ.INVALID_PARAMETER", "no amount") from None
    if not found.is_finite() or found != found.to_integral_value() or found <= 0:
        raise Failed("ACQ.INVALID_PARAMETER", "no amount")
    return int(found)


def yuan(amount: int) -> str:
    """Fen as Alipay writes them."""
    return f"{amount // 100}.{amount % 100:02}"


def _trade(order: Order) -> dict[str, object]:
    trade: dict[str, object] = {"out_trade_no": order.order_no, "total_amount": yuan(order.amount)}
    return trade if order.transaction_id is None else {**trade, "trade_no": order.transaction_id}


def _object(text: str) -> Fields:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failed("isv.illegal-json", "an object is expected", "40002")
    return found


def _data(content_type: str, body: bytes) -> str:
    """The JSON of a v3 request: its body, or the `data` part of multipart."""
    if not content_type.startswith("multipart/"):
        return body.decode("utf-8", "replace")
    message = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    for part in message.walk():
        if part.get_param("name", header="content-disposition") == "data":
            content = part.get_payload(decode=True)
            return content.decode("utf-8", "replace") if isinstance(content, bytes) else ""
    return ""
