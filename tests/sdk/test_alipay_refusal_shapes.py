"""What the published Alipay SDKs make of every shape that a refusal could have: why refusals look as they do.

No gateway here: a server that answers one thing. If an SDK's new version reads otherwise, this says so first.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from paymesh.cli.demo.signing import AlipayProvider, load_key
from tests.sdk.alipay_merchants import MERCHANTS, community, content, official, query

METHOD = "alipay.trade.query"
REFUSED = {
    "code": "40002",
    "msg": "Invalid Arguments",
    "sub_code": "isv.invalid-signature",
    "sub_msg": "the credential does not verify",
}
BOTH = ("official", "community")
Ask = Callable[[str], Awaitable[dict[str, Any]]]


@pytest.fixture
def platform(sdk_keys: Path) -> AlipayProvider:
    """The key that the merchants trust, in key mode."""
    return AlipayProvider(load_key(sdk_keys / "alipay_platform.pem"), "0" * 32)


@asynccontextmanager
async def answering(keys: Path, body: bytes, status: int = 200) -> AsyncIterator[Ask]:
    """A server that says `body` to everybody; yields a query through the named SDK."""

    async def say(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status, body=body, headers={"Content-Type": "text/html;charset=utf-8"})

    app = web.Application()
    app.router.add_route("*", "/gateway.do", say)
    server = TestServer(app)
    await server.start_server()

    async def ask(sdk: str) -> dict[str, Any]:
        [answer] = await MERCHANTS[sdk](keys).call(str(server.make_url("/gateway.do")), query("1"))
        return answer

    try:
        yield ask
    finally:
        await server.close()


@pytest.mark.parametrize("sdk", MERCHANTS)
async def test_signed_by_the_trusted_key_every_sdk_reads_it(sdk_keys: Path, platform: AlipayProvider, sdk: str) -> None:
    async with answering(sdk_keys, platform.answer(METHOD, REFUSED)) as ask:
        assert content(await ask(sdk)) == REFUSED


async def test_signed_by_a_key_of_the_gateways_own_no_sdk_reads_it(sdk_keys: Path) -> None:
    """An SDK trusts one key. So refusals are signed by the key that also signs the answers, or nobody can read them."""
    gateway = AlipayProvider(load_key(sdk_keys / "alipay_gateway.pem"))
    async with answering(sdk_keys, gateway.answer(METHOD, REFUSED)) as ask:
        assert (await ask("official"))["exception"] == "ResponseException"
        assert (await ask("community"))["exception"] == "AliPayValidationError"


async def test_without_a_sub_code_the_official_sdk_calls_a_refusal_success(
    sdk_keys: Path, platform: AlipayProvider
) -> None:
    """Its is_success() is "no sub_code": a refusal without one would pass for a payment."""
    bare = {"code": "40002", "msg": "Invalid Arguments"}
    async with answering(sdk_keys, platform.answer(METHOD, bare)) as ask:
        assert (await ask("official"))["result"]["success"] is True
    async with answering(sdk_keys, platform.answer(METHOD, REFUSED)) as ask:
        assert (await ask("official"))["result"]["success"] is False


async def test_the_object_must_be_named_after_the_method(sdk_keys: Path, platform: AlipayProvider) -> None:
    async with answering(sdk_keys, platform.answer("alipay.trade.pay", REFUSED)) as ask:
        assert content(await ask("official")) == REFUSED
        assert (await ask("community"))["exception"] == "AliPayValidationError"


async def test_where_the_method_is_unknown_error_response_is_read_by_both(
    sdk_keys: Path, platform: AlipayProvider
) -> None:
    async with answering(sdk_keys, platform.answer("error", REFUSED)) as ask:
        assert content(await ask("official")) == REFUSED
        answer = await ask("community")
        assert answer["exception"] == "AliPayException"
        assert "code:40002" in answer["text"]
        assert "isv.invalid-signature" in answer["text"]


@pytest.mark.parametrize("name", ["alipay_trade_query_response", "error_response"])
async def test_unsigned_it_is_an_exception_with_the_text(sdk_keys: Path, name: str) -> None:
    """What Envoy itself answers cannot be signed: then a person still finds the code in the exception."""
    async with answering(sdk_keys, json.dumps({name: REFUSED}).encode()) as ask:
        for sdk, exception in zip(BOTH, ("ResponseException", "AliPayException"), strict=True):
            answer = await ask(sdk)
            assert answer["exception"] == exception
            assert "isv.invalid-signature" in answer["text"]


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_another_status_than_200_hides_the_error(sdk_keys: Path, platform: AlipayProvider, status: int) -> None:
    async with answering(sdk_keys, platform.answer(METHOD, REFUSED), status) as ask:
        assert (await ask("official"))["exception"] == "TypeError"
        assert (await ask("community"))["exception"] == "HTTPError"


async def test_our_generic_json_is_no_answer_for_them(sdk_keys: Path) -> None:
    async with answering(sdk_keys, b'{"code":"unavailable","message":"retry later"}') as ask:
        assert (await ask("official"))["exception"] == "ResponseException"
        assert (await ask("community"))["exception"] == "AttributeError"


async def test_alipay_cert_sn_is_only_for_merchants_in_certificate_mode(
    sdk_keys: Path, platform: AlipayProvider
) -> None:
    """The official SDK wants `sign` right after the object; the other one takes both."""
    async with answering(sdk_keys, platform.answer(METHOD, REFUSED, certificate_mode=True)) as ask:
        assert (await ask("official"))["exception"] == "ResponseException"
        assert content(await ask("by certificate")) == REFUSED


@pytest.mark.parametrize("make", [official, community])
async def test_nobody_there_is_an_exception_too(sdk_keys: Path, make: Callable[[Path], Any]) -> None:
    [answer] = await make(sdk_keys).call("http://127.0.0.1:1/gateway.do", query("1"))
    assert answer["exception"] in ("RequestException", "URLError")
