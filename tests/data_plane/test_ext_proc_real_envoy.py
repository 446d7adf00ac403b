"""ext_proc behind the real Envoy: what the upstream receives, what the caller gets, and all that without ext_proc."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.data_plane.ext_proc_gateway import REFUSED, Gateway, line, running_gateway, send

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
BODY = (
    '{ "order_no":"1", "payer" : {"\\u0070hone":"13812341234","name":"\\u5143 元"},\r\n "card":{"cvv":"123"}, "n":1.50}'
)
SANITIZED = '{ "order_no":"1", "payer" : {"\\u0070hone":"138****1234","name":"\\u5143 元"},\r\n "card":{}, "n":1.50}'
MAX_OBSERVED = 65_536


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


async def test_the_upstream_receives_the_body_sanitised_and_otherwise_byte_for_byte(gateway: Gateway) -> None:
    exchange = await send(gateway, "/sanitized", BODY.encode())
    assert exchange.status == 200
    assert exchange.received == [SANITIZED.encode()]
    logged = await line(gateway, "ext_proc", exchange.request_id, event="sanitized")
    assert logged["changed"] == ["mask /payer/phone", "drop /card/cvv"]
    assert "13812341234" not in (gateway.folder / "ext_proc.log").read_text()


async def test_a_hashed_value_and_a_body_without_anything_to_change(gateway: Gateway) -> None:
    exchange = await send(gateway, "/sanitized", b'{"payer":{"email":"a@example.com"}}')
    assert re.fullmatch(rb'\{"payer":\{"email":"hk:k1:[0-9a-f]{64}:[0-9a-f]{16}"\}\}', exchange.received[0])
    exchange = await send(gateway, "/sanitized", b' {"payer" : null} ')
    assert exchange.received == [b' {"payer" : null} ']


async def test_a_large_body_is_sanitised(gateway: Gateway) -> None:
    filler = "x" * 300_000
    exchange = await send(gateway, "/sanitized", f'{{"filler":"{filler}","card":{{"cvv":"1"}}}}'.encode())
    assert exchange.received == [f'{{"filler":"{filler}","card":{{}}}}'.encode()]


@pytest.mark.parametrize("body", [b"not json", b'{"payer":{},"payer":{}}'])
async def test_a_body_that_cannot_be_sanitised_is_answered_503(gateway: Gateway, body: bytes) -> None:
    exchange = await send(gateway, "/sanitized", body)
    assert exchange.status == 503
    assert exchange.headers["x-pay-reason"] == "unavailable"
    assert json.loads(exchange.body)["code"] == "unavailable"
    assert exchange.received == []


async def test_without_a_decision_nothing_passes_the_sanitiser(gateway: Gateway) -> None:
    exchange = await send(gateway, "/sanitized", BODY.encode(), x_test_decision="none")
    assert (exchange.status, exchange.received) == (503, [])


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ({}, "succeeded"),
        ({"x_pad_to": str(MAX_OBSERVED)}, "succeeded"),
        ({"x_pad_to": str(MAX_OBSERVED + 1)}, "unknown"),
        ({"x_pad_to": "3000000"}, "unknown"),
        ({"x_chunked": "1"}, "unknown"),
        ({"x_chunked": "1", "x_pad_to": "3000000"}, "unknown"),
        ({"x_answer": '{"status":"ACCEPTED"}', "x_status": "202"}, "accepted"),
        ({"x_answer": '{"status":"REFUSED"}', "x_status": "402"}, "refused"),
        ({"x_answer": "oops", "x_status": "500"}, "unknown"),
        ({"x_answer": "", "x_status": "200"}, "unknown"),
        ({"x_answer": "<p>", "x_answer_type": "text/html"}, "unknown"),
        ({"x_answer": '{"status":"SUCCEEDED","status":"REFUSED"}'}, "unknown"),
    ],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("path", ["/observed", "/sanitized"])
async def test_a_response_is_observed_and_passes_unchanged(
    gateway: Gateway, path: str, headers: dict[str, str], outcome: str
) -> None:
    exchange = await send(gateway, path, b"{}", **headers)
    assert exchange.status == int(headers.get("x_status", "200"))
    expected = headers.get("x_answer", '{"status":"SUCCEEDED"}').encode().ljust(int(headers.get("x_pad_to", "0")))
    assert exchange.body == expected
    assert ("Transfer-Encoding" in exchange.headers or "transfer-encoding" in exchange.headers) == (
        "x_chunked" in headers
    )
    access = await line(gateway, "access", exchange.request_id)
    assert access["outcome"] == outcome
    logged = await line(gateway, "ext_proc", exchange.request_id, event="outcome")
    assert (logged["outcome"], logged["route"], logged["channel"]) == (outcome, path.strip("/"), "card")


async def test_a_refusal_by_ext_authz_is_not_observed(gateway: Gateway) -> None:
    exchange = await send(gateway, "/observed", b"{}", x_test_decision="deny")
    assert (exchange.status, exchange.body) == (200, REFUSED)
    assert (await line(gateway, "access", exchange.request_id))["outcome"] is None
    assert gateway.log_lines("ext_proc", exchange.request_id) == []


async def test_streams_end_cleanly_on_one_connection(gateway: Gateway) -> None:
    """Envoy resets a stream that its server has not ended a second after the half-close (a fact seen in Envoy 1.40).

    Without the graceful close it resets every one, at once; so most of them ended by the server show that it is in
    force, and that the server ends them, however busy the machine is.
    """
    before = await stats(gateway)
    at_once = asyncio.Semaphore(4)

    async def one() -> int:
        async with at_once:
            return (await send(gateway, "/sanitized", BODY.encode())).status

    assert set(await asyncio.gather(*(one() for _ in range(100)))) == {200}
    after = await stats(gateway)
    grown = {name: after[name] - before[name] for name in after}
    streams = grown["cluster.paymesh_ext_proc.upstream_rq_total"]
    assert streams >= 200
    assert grown["cluster.paymesh_ext_proc.upstream_cx_total"] <= (
        before["cluster.paymesh_ext_proc.upstream_cx_total"] == 0
    )
    assert grown["cluster.paymesh_ext_proc.upstream_rq_tx_reset"] < streams / 2
    assert grown["cluster.paymesh_ext_proc.upstream_rq_rx_reset"] == 0


async def test_without_ext_proc_the_sanitised_route_is_503_and_the_observed_one_works(gateway: Gateway) -> None:
    await gateway.kill_ext_proc()
    try:
        exchange = await send(gateway, "/sanitized", BODY.encode())
        assert (exchange.status, exchange.received) == (503, [])
        exchange = await send(gateway, "/observed", BODY.encode())
        assert (exchange.status, exchange.body) == (200, b'{"status":"SUCCEEDED"}')
        assert exchange.received == [BODY.encode()]
        assert (await line(gateway, "access", exchange.request_id))["outcome"] is None
    finally:
        await gateway.start_ext_proc()
    async with asyncio.timeout(15):
        while (await send(gateway, "/sanitized", BODY.encode())).status != 200:
            await asyncio.sleep(0.1)


async def stats(gateway: Gateway) -> Counter[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.admin}/stats?filter=cluster.paymesh_ext_proc.upstream_(rq|cx)_") as answer,
    ):
        lines = [text.split(": ") for text in (await answer.text()).splitlines()]
        return Counter({name: int(value) for name, value in lines if value.isdigit()})
