"""Owns a running gateway before services of this process, for what Envoy itself does to a route's requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamEnded

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.signing import HmacMerchant
from paymesh.cli.stack.local_stack import LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from paymesh.payments.events.sqlite_log import SqliteLog
from paymesh.payments.events.types import Result

HOST = "127.0.0.1"
MERCHANTS = "merchants:\n" + "".join(
    f"  - {{id: {name}, credentials: [{{scheme: hmac, key_id: {name}, secret: {{file: {name}.key}}}}]}}\n"
    for name in ("shop", "other")
)
PAY = (
    "operation: pay, schemes: [hmac], "
    "fields: {order_no: /order_no, amount: /amount/total, currency: /amount/currency, product: /product}"
)
Behave = Callable[[web.Request], web.StreamResponse | None]


def paid(_: web.Request) -> web.StreamResponse:
    return web.json_response({"order_no": "any", "status": "SUCCEEDED"})


def dropped(request: web.Request) -> web.StreamResponse:
    """The request was read, and its connection breaks."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@dataclass
class Service:
    """One host. `behave`: what it answers; `hold`: answers wait for it."""

    behave: Behave = paid
    hold: asyncio.Event | None = None
    port: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    """By path."""
    ids: Counter[str] = field(default_factory=Counter)
    """By the request's id."""
    headers: list[Mapping[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    """As sent, query included."""
    _runner: web.AppRunner | None = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        if request.path == "/healthz":
            return web.Response()
        self.seen[request.path] += 1
        self.ids[request.headers.get("x-request-id", "")] += 1
        self.headers.append(dict(request.headers))
        self.paths.append(request.path_qs)
        if self.hold is not None:
            await self.hold.wait()
        answer = self.behave(request)
        assert answer is not None
        return answer

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{any:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        await self.start()
        try:
            yield self
        finally:
            await self.stop()


@dataclass
class RefusingService:
    """Over HTTP/2 without TLS: refuses the first `refuses` streams without a look at them, and answers the rest."""

    refuses: int = 0
    port: int = 0
    processed: int = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RefusingService]:
        server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        refused: set[int] = set()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, RequestReceived) and self.refuses:
                        self.refuses -= 1
                        refused.add(event.stream_id)
                        connection.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
                    elif isinstance(event, StreamEnded) and event.stream_id not in refused:
                        self.processed += 1
                        body = json.dumps({"order_no": "any", "status": "SUCCEEDED"}).encode()
                        length = ("content-length", str(len(body)))
                        headers = [(":status", "200"), ("content-type", "application/json"), length]
                        connection.send_headers(event.stream_id, headers)
                        connection.send_data(event.stream_id, body, end_stream=True)
                writer.write(connection.data_to_send())
        writer.close()


@dataclass(frozen=True)
class Told:
    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def reason(self) -> str | None:
        return self.headers.get("x-pay-reason")

    @property
    def document(self) -> dict[str, object]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass
class Site:
    stack: LocalStack
    session: aiohttp.ClientSession
    folder: Path
    log: SqliteLog

    async def send(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        merchant: str | None = None,
    ) -> Told:
        """`merchant`: signs it."""
        sent = dict(headers or {})
        if merchant is not None:
            sent.update(HmacMerchant.from_file(merchant, self.folder / f"{merchant}.key").headers(method, target, body))
        url = f"http://{self.stack.ports.address('gateway')}{target}"
        async with self.session.request(method, url, data=body or None, headers=sent) as answer:
            return Told(answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.text())

    async def get(self, target: str, headers: Mapping[str, str] | None = None, merchant: str | None = None) -> Told:
        return await self.send("GET", target, b"", headers, merchant)

    async def pay(
        self, path: str, order_no: str | None = None, headers: Mapping[str, str] | None = None, method: str = "POST"
    ) -> Told:
        body = json.dumps(payment(order_no or uuid.uuid4().hex, "any")).encode()
        return await self.send(method, path, body, {"content-type": "application/json", **(headers or {})}, "shop")

    async def result(self, order_no: str) -> Result:
        """Waits for the end of the order's attempt: the access log follows the answer."""
        async with asyncio.timeout(20):
            while True:
                for known in await self.log.of_order("shop", order_no):
                    if known.result is not None:
                        return known.result
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running_site(folder: Path, policy: str) -> AsyncIterator[Site]:
    """A gateway with this policy and two merchants, `shop` and `other`."""
    written = folder / "policy.yaml"
    written.write_text(MERCHANTS + policy)
    for name in ("shop", "other"):
        (folder / f"{name}.key").write_text(f"a throw-away secret of {name}, 32 bytes")
    options = StackOptions(policy=(written,), run_dir=folder / "run", ports=Ports.random())
    async with LocalStack(options, say=lambda _: None) as stack:
        await stack.ready()
        log = SqliteLog(folder / "run" / "data" / "events.sqlite", deadline_s=20)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20)) as session:
            yield Site(stack, session, folder, log)
        await log.close()


def hosts(*ports: int) -> str:
    """The `versions` of a service with these hosts."""
    endpoints = ", ".join(f"{{address: {HOST}, port: {port}}}" for port in ports)
    return f"versions: [{{name: v1, endpoints: [{endpoints}]}}]"


def nobody() -> tuple[socket.socket, int]:
    """A port at which nobody listens, kept from others while the socket is open."""
    held = socket.socket()
    held.bind((HOST, 0))
    return held, held.getsockname()[1]
