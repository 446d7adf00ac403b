"""One exchange with real servers: bounded in time and size, and silent about what was asked."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ipaddress
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from paymesh.payments.denial import Unavailable
from paymesh.payments.jose.fetch import FetchResponse, shown, url_problem
from paymesh.server.http_fetch import AiohttpFetch

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def fetch() -> AsyncIterator[AiohttpFetch]:
    found = AiohttpFetch()
    yield found
    await found.aclose()


async def ask(
    fetch: AiohttpFetch, url: str, *, method: str = "GET", body: bytes = b"", timeout_s: float = 2.0
) -> FetchResponse:
    return await fetch.fetch(method, url, {"x-token": "abc"}, body, timeout_s, 1000)


async def failure(fetch: AiohttpFetch, url: str, **options: float) -> str:
    with pytest.raises(Unavailable) as caught:
        await ask(fetch, url, **options)  # type: ignore[arg-type]
    shown_text = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in shown_text
    assert caught.value.__context__ is None
    return str(caught.value)


async def test_an_exchange(fetch: AiohttpFetch, serve: Serve) -> None:
    async def echo(request: web.Request) -> web.Response:
        said = [request.method, request.raw_path, request.headers["x-token"], (await request.read()).decode()]
        return web.Response(status=418, text="|".join(said), headers=[("x-a", "1"), ("x-a", "2")])  # type: ignore[arg-type]

    url = await serve(echo)
    answer = await ask(fetch, f"{url}/a%2Fb?c=%3D", method="POST", body=b"body")
    assert (answer.status, answer.body) == (418, b"POST|/a%2Fb?c=%3D|abc|body")
    assert answer.headers["x-a"] == "1, 2"


async def test_a_redirect_is_an_answer_and_not_followed(fetch: AiohttpFetch, serve: Serve) -> None:
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=307, headers={"location": "/elsewhere"})

    assert (await ask(fetch, await serve(redirect) + "/here")).status == 307
    assert asked == ["/here"]


async def test_no_cookie_is_kept(fetch: AiohttpFetch, serve: Serve) -> None:
    async def cookies(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get("cookie", "none"), headers={"set-cookie": "a=b"})

    url = await serve(cookies)
    assert [(await ask(fetch, url)).body for _ in range(2)] == [b"none", b"none"]


async def test_no_proxy_from_the_environment(
    fetch: AiohttpFetch, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def plain(_: web.Request) -> web.Response:
        return web.Response(text="direct")

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await ask(fetch, await serve(plain))).body == b"direct"


@pytest.mark.parametrize("declared", [True, False])
async def test_a_large_answer_is_cut(fetch: AiohttpFetch, serve: Serve, declared: bool) -> None:
    async def large(request: web.Request) -> web.StreamResponse:
        if declared:
            return web.Response(body=b"x" * 1001)
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 10_000)

    assert "more than 1000 bytes" in await failure(fetch, await serve(large) + "/?secret=s3cret")


async def test_a_compressed_answer_is_not_unpacked(fetch: AiohttpFetch, serve: Serve) -> None:
    async def bomb(_: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b"0" * 900_000), headers={"content-encoding": "gzip"})

    assert "compressed" in await failure(fetch, await serve(bomb) + "/?secret=s3cret")


async def test_a_slow_answer_is_given_up(fetch: AiohttpFetch, serve: Serve) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    assert "in time" in await failure(fetch, await serve(drip) + "/?secret=s3cret", timeout_s=0.2)


async def test_nobody_there(fetch: AiohttpFetch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/?secret=s3cret"
        assert "no answer" in await failure(fetch, url)


async def test_an_answer_that_is_no_http(fetch: AiohttpFetch) -> None:
    async def noise(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x01 s3cret\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(noise, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "no answer" in await failure(fetch, f"http://127.0.0.1:{port}/?secret=s3cret")


async def test_tls_that_breaks_off(fetch: AiohttpFetch) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "no answer" in await failure(fetch, f"https://127.0.0.1:{port}/?secret=s3cret")


async def test_tls_needs_a_certificate_that_somebody_vouches_for(fetch: AiohttpFetch, tmp_path: Path) -> None:
    async def plain(_: web.Request) -> web.Response:
        return web.Response(text="over TLS")

    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    app = web.Application()
    app.router.add_get("/", plain)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}/?secret=s3cret"
    trusting = AiohttpFetch(ssl.create_default_context(cafile=str(certificate)))
    try:
        assert "no answer" in await failure(fetch, url)
        assert (await ask(trusting, url)).body == b"over TLS"
    finally:
        await trusting.aclose()
        await runner.cleanup()


def self_signed(folder: Path) -> tuple[Path, Path]:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, SHA256())
    )
    files = folder / "server.pem", folder / "server.key"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


async def test_headers_that_would_split_a_request(fetch: AiohttpFetch, serve: Serve) -> None:
    async def plain(_: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(Unavailable):
        await fetch.fetch("GET", await serve(plain), {"x-a": "b\r\nx-c: s3cret"}, b"", 2.0, 1000)


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example/jwks",
        "https://id.example:8443/a?b=c",
        "http://127.0.0.1:80/",
        "http://[::1]:8080/a",
        "http://localhost/a",
    ],
)
def test_urls_that_may_be_asked(url: str) -> None:
    assert url_problem(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "id.example",
        "http://id.example/",
        "http://127.0.0.1.evil.example/",
        "http://localhost.evil.example/",
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https:///path",
        "https://user@id.example/",
        "https://user:pass@id.example/",
        "http://127.0.0.1@evil.example/",
        "https://id.example/#part",
        "https://id.example/#",
        "https://id.example:99999/",
        "https://id.example:0/",
        "https://[::1",
        "https://id.example/a b",
        "https://id.example/\n",
        "https://ïd.example/",
        "https://id.example/" + "x" * 2048,
    ],
)
def test_urls_that_may_not(url: str) -> None:
    assert url_problem(url) is not None


def test_a_url_is_shown_without_its_query() -> None:
    assert shown("https://id.example/a?secret=s3cret") == "https://id.example/a"
