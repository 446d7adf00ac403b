"""Owns the invented Fifth Bank itself, for its adapter's test: on the samples' books, with their till and faults."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from paymesh.cli.samples.faults import Faults
from paymesh.cli.samples.orders import Books, Conflict, Order
from paymesh.cli.samples.till import Till

SHOP, SECRET = "shop-5", b"the secret that both of us have in a file"
_STATES = {"NOTPAY": "WAITING", "SUCCESS": "PAID", "CLOSED": "CLOSED"}


def build_fifth_bank(keys: Path) -> web.Application:
    books = Books(None)
    till = Till(books, lambda shop, order_no: hashlib.sha256(f"{shop} {order_no}".encode()).hexdigest()[:12])

    def told(order: Order) -> dict[str, Any]:
        return {
            "order": order.order_no,
            "state": _STATES[order.state],
            "amount": order.amount,
            "currency": order.currency,
            "number": order.transaction_id,
        }

    def perform(operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        order_no, amount = asked["order"], asked.get("amount")
        if operation == "pay":
            try:
                order = books.begin(SHOP, order_no, "fifth", amount, asked["currency"])
            except Conflict:
                return refused(asked, "another_order")
            till.remember(SHOP, order_no, asked["title"])
            return {**told(order), "code": f"https://fifth.example/{order_no}"}
        order = books.find(SHOP, order_no)
        if order is None:
            return refused(asked, "no_such_order")
        if operation == "refund":
            done = books.refund(SHOP, order_no, asked["refund"], amount)
            answer = {**told(order), "amount": amount, "refund": asked["refund"], "state": "RETURNED"}
            return refused(asked, "not_paid_enough") if done is None else answer
        if operation == "close":
            return (
                told(books.find(SHOP, order_no) or order)
                if books.close_order(SHOP, order_no)
                else refused(asked, "paid")
            )
        return told(order)

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        asked = json.loads(body)
        at = request.headers.get("x-bank-time", "")
        if asked["shop"] != SHOP or not hmac.compare_digest(signed(at, body), request.headers["x-bank-signature"]):
            answer = refused(asked, "not_signed")
        else:
            answer = perform(request.match_info["operation"], asked)
        written, now = json.dumps(answer).encode(), str(int(time.time()))
        headers = {"x-bank-time": now, "x-bank-signature": signed(now, written), "Content-Type": "application/json"}
        return web.Response(body=written, headers=headers)

    app = web.Application()
    Faults().install(app)
    till.install(app)
    app.router.add_post("/bank/{operation}", handle)
    return app


def refused(asked: dict[str, Any], error: str) -> dict[str, Any]:
    answer = {"order": asked["order"], "state": "REFUSED", "error": error, "message": "no"}
    return {**answer, "refund": asked["refund"]} if "refund" in asked else answer


def signed(at: str, body: bytes) -> str:
    return hmac.new(SECRET, at.encode() + b"." + body, hashlib.sha256).hexdigest()
