"""Owns trade's UnionPay side (5.1.0): transactions, queries and UnionPay's notifications, on trade's books.

Signs answers as UnionPay does: with its certificate, or with the secure key for a merchant that signed so. Behind the
gateway it verifies nothing again; as UnionPay's simulator (`simulators.py`) it does.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl

from aiohttp import web

from paymesh.cli.demo.unionpay_signing import APP, BACK, FRONT, QUERY, UnionpayProvider, signed_11, write_answer
from paymesh.cli.samples.invented import token, unionpay_number
from paymesh.cli.samples.orders import Books, Conflict, Order

Fields = Mapping[str, str]
_ECHOED = (
    "version",
    "encoding",
    "bizType",
    "txnType",
    "txnSubType",
    "txnTime",
    "txnAmt",
    "currencyCode",
    "accessType",
    "merId",
    "orderId",
)
_OK = {"respCode": "00", "respMsg": "成功[0000000]"}
_NO_ORDER = {"respCode": "34", "respMsg": "查无此交易[2600000]"}
_DIFFERS = {"respCode": "12", "respMsg": "重复交易[6002000]"}
_NOT_VALID = {"respCode": "10", "respMsg": "报文格式错误[6100030]"}
_NOT_PAID = {"respCode": "35", "respMsg": "原交易状态不正确[2600001]"}
_STATE = {"NOTPAY": "05", "SUCCESS": "00", "CLOSED": "36"}
_NOT_SIGNED = {"respCode": "11", "respMsg": "验证签名失败[9100004]"}
PAY, REFUND, UNDO = "01", "04", "31"
_SCANS, _SCANNED = "06", "07"
"""`txnSubType` of a payment: the payer's code was scanned, and so it is paid; or the payer will scan ours."""
Caller = Callable[[web.Request, Fields], tuple[str, str] | None]
"""Whose order it is and by which channel; None: nobody known has signed it."""


def behind_gateway(request: web.Request, _: Fields) -> tuple[str, str] | None:
    """Orders belong to `x-pay-merchant`, which nobody but the gateway can write."""
    return request.headers.get("x-pay-merchant", ""), request.headers.get("x-pay-channel", "unionpay")


class UnionpayTrade:
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

    @functools.cached_property
    def _provider(self) -> UnionpayProvider:
        # At first use: whoever runs trade without UnionPay needs no such key.
        return UnionpayProvider.from_folder(self._keys)

    def install(self, app: web.Application) -> None:
        self.install_gateway(app)
        app.router.add_post("/notify/unionpay", self._notified)

    def install_gateway(self, app: web.Application) -> None:
        """What UnionPay itself serves."""
        for path in (BACK, FRONT, APP):
            app.router.add_post(path, self._transact)
        app.router.add_post(QUERY, self._queried)

    async def _transact(self, request: web.Request) -> web.Response:
        fields = await _form(request)
        caller = self._caller(request, fields)
        if caller is None:
            return self._answer(fields, _NOT_SIGNED)
        merchant, channel = caller
        if fields.get("txnType") in (REFUND, UNDO):
            result = await asyncio.to_thread(self._refund, merchant, fields)
        else:
            result = await asyncio.to_thread(self._pay, merchant, channel, fields)
        if result is _OK and request.path == APP:
            result = {**_OK, "tn": _number(fields)}
        elif result is _OK and fields.get("txnType") == PAY and fields.get("txnSubType") == _SCANNED:
            result = {**_OK, "qrCode": f"https://qr.95516.example/{token(fields['orderId'])}"}
        return self._answer(fields, result)

    async def _queried(self, request: web.Request) -> web.Response:
        fields = await _form(request)
        caller = self._caller(request, fields)
        if caller is None:
            return self._answer(fields, _NOT_SIGNED)
        order = await asyncio.to_thread(self._books.find, caller[0], fields.get("orderId", ""))
        return self._answer(fields, _NO_ORDER if order is None else _state(order))

    async def _notified(self, request: web.Request) -> web.Response:
        notice, merchant = await _form(request), request.headers.get("x-pay-merchant", "")
        order = await asyncio.to_thread(self._books.find, merchant, notice.get("orderId", ""))
        if order is None or str(order.amount) != notice.get("txnAmt"):
            return web.Response(status=404, text="no such order")
        if notice.get("respCode") == "00":
            await asyncio.to_thread(self._books.pay, merchant, order.order_no, notice.get("queryId", ""))
        return web.Response(text="ok")

    def _pay(self, merchant: str, channel: str, fields: Fields) -> Fields:
        order_no, amount = fields.get("orderId", ""), fields.get("txnAmt", "")
        if fields.get("txnType") != PAY or not order_no or not amount.isdecimal():
            return _NOT_VALID
        try:
            self._books.begin(merchant, order_no, channel, int(amount), "CNY")
        except Conflict:
            return _DIFFERS
        self._begun(merchant, order_no, fields.get("riskRateInfo", ""))
        if fields.get("txnSubType") == _SCANS:
            self._books.pay(merchant, order_no, _number(fields))
        return _OK

    def _refund(self, merchant: str, fields: Fields) -> Fields:
        amount = fields.get("txnAmt", "")
        if not amount.isdecimal():
            return _NOT_VALID
        # A refund's `orderId` is its own; the payment is named by the number that UnionPay gave it.
        order = self._books.find_paid(merchant, fields.get("origQryId", ""))
        if order is None:
            return _NO_ORDER
        if fields.get("txnType") == UNDO and int(amount) != order.amount:
            return _NOT_PAID
        done = self._books.refund(merchant, order.order_no, fields.get("orderId", ""), int(amount))
        return _NOT_PAID if done is None else _OK

    def _answer(self, request: Fields, result: Fields) -> web.Response:
        echoed = {name: request[name] for name in _ECHOED if name in request}
        answer = {**echoed, "queryId": _number(request), **result}
        if request.get("signMethod") == "11":
            secure_key = (self._keys / "unionpay_secure.key").read_bytes().rstrip(b"\r\n")
            signed = signed_11({**answer, "signMethod": "11"}, secure_key)
        else:
            signed = self._provider.form(answer)
        return web.Response(body=write_answer(signed), headers={"Content-Type": "text/html;charset=UTF-8"})


async def _form(request: web.Request) -> dict[str, str]:
    return dict(parse_qsl((await request.read()).decode("ascii", "replace"), keep_blank_values=True))


def _state(order: Order) -> dict[str, str]:
    return {**_OK, "origRespCode": _STATE[order.state], "txnAmt": str(order.amount), "settleAmt": str(order.amount)}


def _number(fields: Fields) -> str:
    """Twenty-one digits, the same for the same order."""
    return unionpay_number(fields.get("merId", ""), fields.get("orderId", ""))
