"""Owns the sample trade service: orders, the channels' answers relayed, the provider's notifications.

Alipay's and UnionPay's own protocols are in modules beside this one, on the same books.

Behind the gateway it trusts `x-pay-merchant` and `x-pay-channel`: nobody else can write them.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from paymesh.cli.samples import payer
from paymesh.cli.samples.alipay_trade import AlipayTrade
from paymesh.cli.samples.invented import token
from paymesh.cli.samples.orders import Books, Conflict, Order
from paymesh.cli.samples.received import Received
from paymesh.cli.samples.unionpay_trade import UnionpayTrade

_SIGNATURE_HEADERS = (
    "Wechatpay-Timestamp",
    "Wechatpay-Nonce",
    "Wechatpay-Signature",
    "Wechatpay-Serial",
    "Wechatpay-Signature-Type",
)
_GENERIC_STATUS = {"NOTPAY": "ACCEPTED", "SUCCESS": "SUCCEEDED", "CLOSED": "REFUSED"}
_HTTP = web.AppKey("http", aiohttp.ClientSession)


class Trade:
    """The service's handlers. `wechat` and `alipay` are the channels' base URLs, `keys` the demo's folder of them."""

    def __init__(self, books: Books, version: str, wechat: str, alipay: str, keys: Path) -> None:
        self._books = books
        self._keys = keys
        self._version = version
        self._wechat = wechat
        self._alipay = alipay
        self._cipher = AESGCM((keys / "wechat_apiv3.key").read_bytes().strip())

    def app(self) -> web.Application:
        app = web.Application()
        Received(self._version).install(app)
        app.cleanup_ctx.append(self._session)
        app.router.add_post("/v3/pay/transactions/native", self._native)
        app.router.add_get("/v3/pay/transactions/out-trade-no/{order_no}", self._wechat_query)
        app.router.add_post("/notify/wechat", self._notified)
        app.router.add_post("/v1/payments", self._pay)
        app.router.add_get("/v1/payments/{order_no}", self._query)
        app.router.add_post("/v1/login", self._login)
        AlipayTrade(self._books, self._keys).install(app)
        UnionpayTrade(self._books, self._keys).install(app)
        return app

    async def _session(self, app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            app[_HTTP] = session
            yield
        self._books.close()

    async def _native(self, request: web.Request) -> web.Response:
        order = json.loads(await request.read())
        try:
            await self._begin(request, str(order["out_trade_no"]), order["amount"])
        except Conflict:
            return await self._signed(request, 400, {"code": "INVALID_REQUEST", "message": "the order differs"})
        code_url = f"weixin://wxpay/bizpayurl?pr={token(str(order['out_trade_no']))}"
        return await self._signed(request, 200, {"code_url": code_url})

    async def _wechat_query(self, request: web.Request) -> web.Response:
        order = await self._find(request)
        if order is None:
            return await self._signed(request, 404, {"code": "ORDER_NOT_EXIST", "message": "no such order"})
        answer: dict[str, object] = {
            "mchid": request.query.get("mchid", ""),
            "out_trade_no": order.order_no,
            "trade_state": order.state,
            "trade_state_desc": order.state,
            "amount": {"total": order.amount, "currency": order.currency},
            **payer.WECHAT,
        }
        if order.transaction_id is not None:
            answer["transaction_id"] = order.transaction_id
        return await self._signed(request, 200, answer)

    async def _notified(self, request: web.Request) -> web.Response:
        resource = (await request.json())["resource"]
        try:
            plain = self._cipher.decrypt(
                resource["nonce"].encode(),
                base64.b64decode(resource["ciphertext"]),
                resource.get("associated_data", "").encode(),
            )
        except InvalidTag:
            return web.json_response({"code": "FAIL", "message": "cannot decrypt"}, status=400)
        notice = json.loads(plain)
        merchant, order_no = _merchant(request), str(notice["out_trade_no"])
        order = await asyncio.to_thread(self._books.find, merchant, order_no)
        if order is None or order.amount != notice["amount"]["total"]:
            return web.json_response({"code": "FAIL", "message": "no such order"}, status=404)
        if notice["trade_state"] == "SUCCESS":
            await asyncio.to_thread(self._books.pay, merchant, order_no, str(notice["transaction_id"]))
        return web.Response(status=204)

    async def _pay(self, request: web.Request) -> web.Response:
        order = await request.json()
        try:
            begun = await self._begin(request, str(order["order_no"]), order["amount"])
        except Conflict:
            return web.json_response({"code": "order_conflict", "message": "the order differs"}, status=409)
        base = self._alipay if begun.channel == "alipay" else self._wechat
        async with request.app[_HTTP].post(f"{base}/qr", json={"order_no": begun.order_no}) as answer:
            qr_code = (await answer.json())["qr_code"]
        return web.json_response({**_generic(begun), "qr_code": qr_code})

    async def _login(self, request: web.Request) -> web.Response:
        return web.json_response({"user": request.headers.get("x-pay-user")})

    async def _query(self, request: web.Request) -> web.Response:
        order = await self._find(request)
        if order is None:
            return web.json_response({"code": "order_unknown", "message": "no such order"}, status=404)
        return web.json_response({**_generic(order), **payer.GENERIC})

    async def _begin(self, request: web.Request, order_no: str, amount: dict[str, object]) -> Order:
        channel, currency = request.headers.get("x-pay-channel", ""), str(amount.get("currency", "CNY"))
        total = amount["total"]
        assert isinstance(total, int)
        return await asyncio.to_thread(self._books.begin, _merchant(request), order_no, channel, total, currency)

    async def _find(self, request: web.Request) -> Order | None:
        return await asyncio.to_thread(self._books.find, _merchant(request), request.match_info["order_no"])

    async def _signed(self, request: web.Request, status: int, document: dict[str, object]) -> web.Response:
        """An answer signed by the provider, as the merchant's SDK expects it."""
        body = json.dumps(document, ensure_ascii=False).encode()
        return await self._relay(request, f"{self._wechat}/sign", body, status)

    async def _relay(self, request: web.Request, url: str, body: bytes, status: int | None = None) -> web.Response:
        """The provider's answer byte for byte, with its signature."""
        headers = {"Content-Type": "application/json"}
        async with request.app[_HTTP].post(url, data=body, headers=headers) as answer:
            signature = {name: answer.headers[name] for name in _SIGNATURE_HEADERS}
            return web.Response(
                status=answer.status if status is None else status,
                body=await answer.read(),
                headers={**signature, "Content-Type": "application/json; charset=utf-8"},
            )


def build_trade(database: Path, version: str, wechat: str, alipay: str, keys: Path) -> web.Application:
    return Trade(Books(database), version, wechat, alipay, keys).app()


def _merchant(request: web.Request) -> str:
    return request.headers.get("x-pay-merchant", "")


def _generic(order: Order) -> dict[str, object]:
    return {
        "order_no": order.order_no,
        "status": _GENERIC_STATUS[order.state],
        "channel": order.channel,
        "amount": {"total": order.amount, "currency": order.currency},
    }
