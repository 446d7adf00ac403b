"""Owns WeChat Pay's simulator: orders of four products, queries, closing and refunds (v3), on books of its own.

Verifies every request's signature and signs every answer, refusals too. Rules: protocols.md section 1.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from paymesh.cli.demo.signing import WechatPlatform
from paymesh.cli.samples.invented import token
from paymesh.cli.samples.merchants import WechatMerchants
from paymesh.cli.samples.orders import Books, Conflict, Order

Fields = Mapping[str, object]
ORDERS, REFUNDS = "/v3/pay/transactions", "/v3/refund/domestic/refunds"
PRODUCTS = ("native", "jsapi", "app", "h5")
_FINAL = {"SUCCESS": "ORDERPAID", "CLOSED": "ORDER_CLOSED"}


class Failed(Exception):  # noqa: N818 - it names the answer
    """WeChat Pay's refusal: status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


Perform = Callable[[web.Request, str, Fields], Awaitable[Fields | None]]
"""The answer to a request of a merchant; None: 204."""


class WechatPay:
    """The handlers. `begun` hears merchant, number and description of every order that comes."""

    def __init__(
        self,
        books: Books,
        platform: WechatPlatform,
        merchants: WechatMerchants,
        begun: Callable[[str, str, str], None],
    ) -> None:
        self._books = books
        self._platform = platform
        self._merchants = merchants
        self._begun = begun

    def install(self, app: web.Application) -> None:
        for product in PRODUCTS:
            app.router.add_post(f"{ORDERS}/{product}", self._signed(self._order))
        app.router.add_get(f"{ORDERS}/out-trade-no/{{order_no}}", self._signed(self._query))
        app.router.add_post(f"{ORDERS}/out-trade-no/{{order_no}}/close", self._signed(self._close))
        app.router.add_post(REFUNDS, self._signed(self._refund))

    def _signed(self, perform: Perform) -> Callable[[web.Request], Awaitable[web.Response]]:
        """A handler that lets signed requests in and only signed answers out."""

        async def handle(request: web.Request) -> web.Response:
            try:
                mchid, fields = await self._read(request)
                answered = await perform(request, mchid, fields)
                status, body = (204, b"") if answered is None else (200, _written(answered))
            except Failed as failed:
                status, body = failed.status, _written({"code": failed.code, "message": failed.message})
            return web.Response(status=status, body=body or None, headers=self._platform.sign(body))

        return handle

    async def _read(self, request: web.Request) -> tuple[str, Fields]:
        body = await request.read()
        authorization = request.headers.get("Authorization", "")
        mchid = self._merchants.caller(request.method, request.raw_path, authorization, body)
        if mchid is None:
            raise Failed(401, "SIGN_ERROR", "签名错误")
        try:
            fields = json.loads(body) if body else {}
        except ValueError:
            fields = None
        if not isinstance(fields, dict) or fields.get("mchid", request.query.get("mchid", mchid)) != mchid:
            raise Failed(400, "PARAM_ERROR", "no object, or another merchant's mchid")
        return mchid, fields

    async def _order(self, request: web.Request, mchid: str, fields: Fields) -> Fields:
        order_no, description, total = fields.get("out_trade_no"), fields.get("description"), _total(fields, "total")
        if not all(isinstance(fields.get(name), str) for name in ("appid", "notify_url")) or fields["mchid"] != mchid:
            raise Failed(400, "PARAM_ERROR", "appid, mchid or notify_url is missing")
        if not isinstance(order_no, str) or not isinstance(description, str):
            raise Failed(400, "PARAM_ERROR", "out_trade_no or description is missing")
        product = request.path.rpartition("/")[2]
        if product == "jsapi" and "payer" not in fields:
            raise Failed(400, "PARAM_ERROR", "payer is missing")
        try:
            order = await asyncio.to_thread(self._books.begin, mchid, order_no, "wechat", total, "CNY")
        except Conflict:
            raise Failed(400, "INVALID_REQUEST", "the order differs") from None
        self._begun(mchid, order_no, description)
        if order.state in _FINAL:
            raise Failed(400, _FINAL[order.state], "the order is paid or closed")
        return {
            "native": {"code_url": f"weixin://wxpay/bizpayurl?pr={token(order_no)}"},
            "h5": {"h5_url": f"https://wx.tenpay.example/checkmweb?prepay_id=wx{token(order_no)}"},
        }.get(product, {"prepay_id": f"wx{token(order_no)}"})

    async def _query(self, request: web.Request, mchid: str, _: Fields) -> Fields:
        order = await self._find(mchid, request.match_info["order_no"])
        answer: dict[str, object] = {
            "mchid": mchid,
            "out_trade_no": order.order_no,
            "trade_state": order.state,
            "trade_state_desc": order.state,
            "amount": {"total": order.amount, "currency": order.currency},
        }
        return answer if order.transaction_id is None else {**answer, "transaction_id": order.transaction_id}

    async def _close(self, request: web.Request, mchid: str, fields: Fields) -> None:
        if "mchid" not in fields:
            raise Failed(400, "PARAM_ERROR", "mchid is missing")
        order = await self._find(mchid, request.match_info["order_no"])
        if not await asyncio.to_thread(self._books.close_order, mchid, order.order_no):
            raise Failed(400, "ORDER_PAID", "the order is paid")

    async def _refund(self, _: web.Request, mchid: str, fields: Fields) -> Fields:
        order = await self._find(mchid, str(fields.get("out_trade_no")))
        refund_no, amount = str(fields.get("out_refund_no", "")), _total(fields, "refund")
        if not refund_no or _total(fields, "total") != order.amount:
            raise Failed(400, "PARAM_ERROR", "out_refund_no is missing, or the total differs")
        refunded = await asyncio.to_thread(self._books.refund, mchid, order.order_no, refund_no, amount)
        if refunded is None:
            raise Failed(400, "INVALID_REQUEST", "not paid, or less than that was paid")
        return {
            "refund_id": f"50300{refund_no}",
            "out_refund_no": refund_no,
            "out_trade_no": order.order_no,
            "transaction_id": order.transaction_id,
            "status": "SUCCESS",
            "amount": {"total": order.amount, "refund": amount, "currency": order.currency},
        }

    async def _find(self, mchid: str, order_no: str) -> Order:
        order = await asyncio.to_thread(self._books.find, mchid, order_no)
        if order is None:
            raise Failed(404, "ORDER_NOT_EXIST", "no such order")
        return order


def _total(fields: Fields, name: str) -> int:
    amount = fields.get("amount")
    found = amount.get(name) if isinstance(amount, dict) else None
    if not isinstance(found, int) or found <= 0:
        raise Failed(400, "PARAM_ERROR", f"amount.{name} is no amount")
    return found


def _written(document: Fields) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
