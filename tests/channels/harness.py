"""Owns what the conformance suite drives a channel with: its adapter, who we are there, and its provider over HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa
from yarl import URL

from paymesh.payments.adapters.contract import (
    Adapter,
    ChannelAnswer,
    ChannelIdentity,
    Expected,
    GenericClose,
    GenericOrder,
    GenericQuery,
    GenericRefund,
    Stamp,
    UpstreamRequest,
    unanswered,
)
from paymesh.payments.denial import Denial
from paymesh.payments.money import Money
from paymesh.payments.secrets import Secret
from paymesh.payments.signers import Signer

PATIENCE_S = 1.0
"""How long an answer may take: the provider's own outages here are slower."""
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
"""Nobody knows this key."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer as it came; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Channel:
    """What a channel needs to pass the suite."""

    adapter: Adapter
    product: str
    """One whose order waits for its payer."""
    build: Callable[[Path], web.Application]
    """Its provider, from the folder of the demo's keys: verifies, signs, and has the samples' `/_sample/...` paths."""
    identity: Callable[[Path], ChannelIdentity]
    unsigned: Callable[[Heard], Heard]
    """The same answer without its signature."""
    shown: Callable[[str], str] = str
    """A subject as it arrives."""
    closes_unpaid: bool = True
    """False: what closes is a payment, which goes back."""


class Provider:
    """A channel at work: orders by its adapter, answers from its provider's simulator."""

    def __init__(self, channel: Channel, session: aiohttp.ClientSession, url: URL, keys: Path) -> None:
        self.channel = channel
        self.adapter = channel.adapter
        self.keys = keys
        self.identity = channel.identity(keys)
        self._session = session
        self._url = url

    def order(self, total: int = 1234, **changed: Any) -> GenericOrder:
        order = GenericOrder(
            order_no=secrets.token_hex(8),
            money=Money(total, "CNY"),
            product=self.channel.product,
            begun_at_s=int(time.time()),
            subject="茶叶 250g",
            notify_url="https://gateway.example/notify?channel=1&from=paymesh",
            client_ip="192.0.2.1",
        )
        return dataclasses.replace(order, **changed)

    def expected(self, asked: GenericOrder | GenericQuery | GenericRefund | GenericClose) -> Expected:
        return asked.expected("channel-1")

    async def pay(self, order: GenericOrder, identity: ChannelIdentity | None = None) -> ChannelAnswer:
        return await self.ask(order, self.adapter.write_pay(order, identity or self.identity, stamp()))

    def query_of(self, order: GenericOrder) -> GenericQuery:
        return GenericQuery(order.order_no, order.begun_at_s, order.money)

    async def query(self, order: GenericOrder, identity: ChannelIdentity | None = None) -> ChannelAnswer:
        query = self.query_of(order)
        return await self.ask(query, self.adapter.write_query(query, identity or self.identity, stamp()))

    async def refund(
        self, order: GenericOrder, total: int, refund_no: str, identity: ChannelIdentity | None = None
    ) -> ChannelAnswer:
        refund = GenericRefund(
            order_no=order.order_no,
            refund_no=refund_no,
            money=Money(total, "CNY"),
            paid=order.money,
            begun_at_s=int(time.time()),
            channel_order_no=await self.number(order),
            reason="商品 & 服务",
        )
        return await self.ask(refund, self.adapter.write_refund(refund, identity or self.identity, stamp()))

    async def close(self, order: GenericOrder, identity: ChannelIdentity | None = None) -> ChannelAnswer:
        close = GenericClose(order.order_no, int(time.time()), order.money, await self.number(order))
        return await self.ask(close, self.adapter.write_close(close, identity or self.identity, stamp()))

    async def number(self, order: GenericOrder) -> str | None:
        """The channel's own number of the order, as a query tells it."""
        return (await self.query(order)).document.get("channel_order_no")  # type: ignore[return-value]

    async def ask(
        self, asked: GenericOrder | GenericQuery | GenericRefund | GenericClose, request: UpstreamRequest | Denial
    ) -> ChannelAnswer:
        """Send it and read the answer, as the gateway does; no answer in time is read as none."""
        try:
            heard = await self.send(request)
        except TimeoutError:
            return unanswered(self.expected(asked), "no answer in time")
        return self.read(self.expected(asked), heard)

    async def send(self, request: UpstreamRequest | Denial) -> Heard:
        assert isinstance(request, UpstreamRequest), request
        url = URL(f"{self._url}{request.target}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with self._session.request(
            request.method, url, headers=request.headers, data=request.body or None, timeout=timeout
        ) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Heard(answer.status, headers, await answer.read())

    def read(self, expected: Expected, heard: Heard, identity: ChannelIdentity | None = None) -> ChannelAnswer:
        return self.adapter.read_answer(
            expected, heard.status, heard.headers, heard.body, identity or self.identity, stamp()
        )

    async def books(self, order: GenericOrder) -> list[dict[str, Any]]:
        """The provider's own entries of that number."""
        async with self._session.get(f"{self._url}/_sample/orders") as answer:
            return [entry for entry in await answer.json() if entry["order_no"] == order.order_no]

    async def payer_pays(self, order: GenericOrder) -> bool:
        async with self._session.post(f"{self._url}/_sample/pay", json={"order_no": order.order_no}) as answer:
            assert answer.status == 200
            return bool((await answer.json())["paid"])

    async def fails(self, kind: str, share: float = 1) -> None:
        document = {"kind": kind, "share": share, "seconds": 3 * PATIENCE_S}
        async with self._session.post(f"{self._url}/_sample/faults", json=document) as answer:
            assert answer.status == 200


@asynccontextmanager
async def running(channel: Channel, keys: Path) -> AsyncIterator[Provider]:
    """The channel with its provider on a free port."""
    server = TestServer(channel.build(keys))
    await server.start_server()
    try:
        async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session:
            url = server.make_url("/")
            yield Provider(channel, session, URL(f"http://{url.host}:{url.port}"), keys)
            await asyncio.sleep(0)
    finally:
        await server.close()


def stamp() -> Stamp:
    return Stamp(int(time.time()), secrets.token_hex(16))


def strangers(identity: ChannelIdentity) -> ChannelIdentity:
    """Says that it is us, and signs with another key."""
    signer = None if identity.signer is None else Signer(STRANGER, identity.serial)
    secret = None if identity.secret is None else Secret(b"nobody's secret of thirty-two bytes")
    return dataclasses.replace(identity, signer=signer, secret=secret)
