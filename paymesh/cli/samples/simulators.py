"""Owns the channels' simulators: WeChat Pay (signs its answers), Alipay, bank card, offline."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from paymesh.cli.demo.signing import WechatPlatform
from paymesh.cli.samples.notifying import Notifying
from paymesh.cli.samples.received import Received

REFUSED_PAN_ENDING = "0002"
"""A card with these last four digits is declined, as test cards of acquirers are."""
SLOW_PAN_ENDING = "0044"
"""A card whose issuer takes two seconds to answer."""


def build_wechat(keys: Path) -> web.Application:
    """WeChat Pay: takes native orders, signs every answer with the platform's key."""
    platform = WechatPlatform.from_folder(keys)

    def signed(document: bytes) -> web.Response:
        return web.Response(body=document, headers=platform.sign(document))

    async def native(request: web.Request) -> web.Response:
        order = await request.json()
        code_url = f"weixin://wxpay/bizpayurl?pr={_token(str(order['out_trade_no']))}"
        return signed(json.dumps({"code_url": code_url}).encode())

    async def sign(request: web.Request) -> web.Response:
        return signed(await request.read())

    app = web.Application()
    Received("v1").install(app)
    app.router.add_post("/v3/pay/transactions/native", native)
    app.router.add_post("/sign", sign)
    app.router.add_post("/_sample/notify", Notifying(platform).handle)
    app.router.add_post("/qr", _qr("weixin://wxpay/bizpayurl?pr="))
    return app


def build_alipay(keys: Path) -> web.Application:  # noqa: ARG001 - every simulator is built alike
    """Alipay: gives a QR code for an order."""
    app = web.Application()
    Received("v1").install(app)
    app.router.add_post("/qr", _qr("https://qr.alipay.example/"))
    return app


def build_card(keys: Path) -> web.Application:  # noqa: ARG001
    """A bank card acquirer: money moves at once, or the card is declined."""

    async def pay(request: web.Request) -> web.Response:
        order = await request.json()
        pan = str(order.get("card", {}).get("pan", ""))
        if pan.endswith(SLOW_PAN_ENDING):
            await asyncio.sleep(2)
        declined = pan.endswith(REFUSED_PAN_ENDING)
        answer = {
            "order_no": order["order_no"],
            "status": "REFUSED" if declined else "SUCCEEDED",
            "channel": request.headers.get("x-pay-channel"),
        }
        return web.json_response(answer, status=402 if declined else 200)

    app = web.Application()
    Received("v1").install(app)
    app.router.add_post("/v1/payments", pay)
    return app


def build_offline(keys: Path) -> web.Application:  # noqa: ARG001
    """Offline payments: recorded, and paid at a counter later."""

    async def pay(request: web.Request) -> web.Response:
        order = await request.json()
        channel = request.headers.get("x-pay-channel")
        return web.json_response({"order_no": order["order_no"], "status": "ACCEPTED", "channel": channel})

    app = web.Application()
    Received("v1").install(app)
    app.router.add_post("/v1/payments", pay)
    return app


SIMULATORS: dict[str, Callable[[Path], web.Application]] = {
    "wechat": build_wechat,
    "alipay": build_alipay,
    "card": build_card,
    "offline": build_offline,
}


def _qr(prefix: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def qr(request: web.Request) -> web.Response:
        order_no = str((await request.json())["order_no"])
        return web.json_response({"qr_code": prefix + _token(order_no)})

    return qr


def _token(order_no: str) -> str:
    return hashlib.sha256(order_no.encode()).hexdigest()[:16]
