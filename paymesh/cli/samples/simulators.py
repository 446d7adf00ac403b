"""Owns the channels' simulators: WeChat Pay, Alipay, UnionPay (they verify what they are asked and sign what they
answer, on books of their own), bank card, offline. Each fails on request: `faults.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from aiohttp import web

from paymesh.cli.demo.signing import WechatPlatform
from paymesh.cli.samples.alipay_trade import AlipayTrade, Failed
from paymesh.cli.samples.faults import Faults
from paymesh.cli.samples.invented import alipay_number, token, unionpay_number, wechat_number
from paymesh.cli.samples.merchants import AlipayMerchants, UnionpayMerchants, WechatMerchants
from paymesh.cli.samples.notifying import Notifying
from paymesh.cli.samples.orders import Books
from paymesh.cli.samples.received import Received
from paymesh.cli.samples.till import Till
from paymesh.cli.samples.unionpay_trade import UnionpayTrade
from paymesh.cli.samples.wechat_pay import WechatPay

REFUSED_PAN_ENDING = "0002"
"""A card with these last four digits is declined, as test cards of acquirers are."""
SLOW_PAN_ENDING = "0044"
"""A card whose issuer takes two seconds to answer."""


class Build(Protocol):
    """A simulator with the demo's keys; `database` keeps its books, in memory without it."""

    def __call__(self, keys: Path, database: Path | None = None) -> web.Application: ...


def build_wechat(keys: Path, database: Path | None = None) -> web.Application:
    """WeChat Pay. Beside its own paths it signs any document for the sample trade service (`/sign`)."""
    platform = WechatPlatform.from_folder(keys)
    books = Books(database)
    till = Till(books, wechat_number)

    async def sign(request: web.Request) -> web.Response:
        document = await request.read()
        return web.Response(body=document, headers=platform.sign(document))

    app = _application()
    till.install(app)
    WechatPay(books, platform, WechatMerchants.from_folder(keys), till.remember).install(app)
    app.router.add_post("/sign", sign)
    app.router.add_post("/_sample/notify", Notifying(platform).handle)
    app.router.add_post("/qr", _qr("weixin://wxpay/bizpayurl?pr="))
    return app


def build_alipay(keys: Path, database: Path | None = None) -> web.Application:
    """Alipay v2. Beside it a QR code for any order of the sample trade service (`/qr`)."""
    merchants = AlipayMerchants.from_folder(keys)
    books = Books(database)
    till = Till(books, alipay_number)

    def caller(_: web.Request, parameters: Mapping[str, str]) -> tuple[str, str]:
        app_id = merchants.caller(parameters)
        if app_id is None:
            raise Failed("isv.invalid-signature", "验签出错", "40002")
        return app_id, "alipay"

    app = _application()
    till.install(app)
    AlipayTrade(books, keys, caller, till.remember).install_gateway(app)
    app.router.add_post("/qr", _qr("https://qr.alipay.example/"))
    return app


def build_unionpay(keys: Path, database: Path | None = None) -> web.Application:
    """UnionPay 5.1.0."""
    merchants = UnionpayMerchants.from_folder(keys)
    books = Books(database)
    till = Till(books, unionpay_number)

    def caller(_: web.Request, fields: Mapping[str, str]) -> tuple[str, str] | None:
        mer_id = merchants.caller(fields)
        return None if mer_id is None else (mer_id, "unionpay")

    app = _application()
    till.install(app)
    UnionpayTrade(books, keys, caller, till.remember).install_gateway(app)
    return app


def build_card(keys: Path, database: Path | None = None) -> web.Application:  # noqa: ARG001 - all are built alike
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

    app = _application()
    app.router.add_post("/v1/payments", pay)
    return app


def build_offline(keys: Path, database: Path | None = None) -> web.Application:  # noqa: ARG001
    """Offline payments: recorded, and paid at a counter later."""

    async def pay(request: web.Request) -> web.Response:
        order = await request.json()
        channel = request.headers.get("x-pay-channel")
        return web.json_response({"order_no": order["order_no"], "status": "ACCEPTED", "channel": channel})

    app = _application()
    app.router.add_post("/v1/payments", pay)
    return app


SIMULATORS: Mapping[str, Build] = {
    "wechat": build_wechat,
    "alipay": build_alipay,
    "unionpay": build_unionpay,
    "card": build_card,
    "offline": build_offline,
}


def _application() -> web.Application:
    app = web.Application()
    Received("v1").install(app)
    Faults().install(app)
    return app


def _qr(prefix: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def qr(request: web.Request) -> web.Response:
        order_no = str((await request.json())["order_no"])
        return web.json_response({"qr_code": prefix + token(order_no)})

    return qr
