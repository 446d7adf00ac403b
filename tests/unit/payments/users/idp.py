"""A real identity provider on a random port: says what it is told to say, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def private_pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class IdentityProvider:
    """Every endpoint answers `answer` (or `status`), after `gate`."""

    def __init__(self) -> None:
        self.answer: object = {}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests: list[Mapping[str, str]] = []
        """Form or query parameters of each request, with `authorization` and `path`."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = 0
        self.most_at_once = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        given = dict(parse_qsl(request.query_string)) | dict(parse_qsl((await request.read()).decode()))
        given |= {"authorization": request.headers.get("authorization", ""), "path": request.path}
        self.requests.append({**given, "method_": request.method})
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return web.Response(status=self.status, body=body, headers=self.headers)

    async def asked(self, count: int) -> None:
        while len(self.requests) < count:
            await asyncio.sleep(0.001)


def alipay_answer(key: rsa.RSAPrivateKey, name: str, text: str) -> bytes:
    """`text` is the raw object, white space and escapes as they please."""
    sign = base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), SHA256())).decode()
    return f'{{"{name}":{text},"sign":"{sign}"}}'.encode()


@asynccontextmanager
async def running() -> AsyncIterator[IdentityProvider]:
    found = IdentityProvider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        found.gate.set()
        await runner.cleanup()
