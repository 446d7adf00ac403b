"""Owns what a payer and an onlooker can do at a simulator: pay an order that waits, and see the simulator's own books.

`GET /_sample/orders` lists every order; `POST /_sample/pay` with `order_no` pays the one of that number, as a payer
does who has scanned its code. 404 if there is none; the answer tells whether this call moved the money.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from paymesh.cli.samples.orders import Books


class Till:
    """`number` invents the provider's own number of a payment, from the merchant and its order number."""

    def __init__(self, books: Books, number: Callable[[str, str], str]) -> None:
        self._books = books
        self._number = number
        self._subjects: dict[tuple[str, str], str] = {}

    def install(self, app: web.Application) -> None:
        app.router.add_get("/_sample/orders", self._show)
        app.router.add_post("/_sample/pay", self._pay)
        app.on_cleanup.append(self._close)

    def remember(self, merchant: str, order_no: str, subject: str) -> None:
        """What the order was called when it came last: shown beside it, kept nowhere."""
        self._subjects[merchant, order_no] = subject

    async def _show(self, _: web.Request) -> web.Response:
        orders = await asyncio.to_thread(self._books.all_orders)
        shown = [
            {
                "merchant": order.merchant,
                "order_no": order.order_no,
                "amount": {"total": order.amount, "currency": order.currency},
                "state": order.state,
                "paid_times": order.paid_times,
                "refunded": refunded,
                "subject": self._subjects.get((order.merchant, order.order_no)),
            }
            for order, refunded in orders
        ]
        return web.json_response(shown)

    async def _pay(self, request: web.Request) -> web.Response:
        wanted = str((await request.json()).get("order_no"))
        orders = await asyncio.to_thread(self._books.all_orders)
        order = next((order for order, _ in orders if order.order_no == wanted), None)
        if order is None:
            return web.json_response({"message": "no such order"}, status=404)
        number = self._number(order.merchant, order.order_no)
        return web.json_response({"paid": await asyncio.to_thread(self._books.pay, order.merchant, wanted, number)})

    async def _close(self, _: web.Application) -> None:
        self._books.close()
