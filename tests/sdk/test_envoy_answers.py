"""Envoy's own answers, read through the published SDKs: what may have been sent is unknown, what was not was not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from wechatpayv3 import WeChatPay, WeChatPayType

from paymesh.cli.demo.world import MCHID, SERIAL_NO
from paymesh.cli.stack.local_stack import LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from tests.data_plane.forwarding_site import Service, dropped, hosts, nobody
from tests.sdk.alipay_merchants import MERCHANTS, content, order_number, pay, precreate

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
UNKNOWN, NOT_PROCESSED = "the outcome is unknown", "not processed"
KEYS = "${PAYMESH_DEMO_KEYS}"
POLICY = f"""
merchants:
  - id: shop
    credentials:
      - {{scheme: alipay, app_id: "2021000000000001", public_key: {{file: "{KEYS}/alipay_merchant_pub.pem"}}}}
      - scheme: wechat_v3
        mchid: "{MCHID}"
        serial_no: {SERIAL_NO}
        public_key: {{file: "{KEYS}/wechat_merchant_pub.pem"}}
response_signers:
  - protocol: alipay_v2
    private_key: {{file: "{KEYS}/alipay_platform.pem"}}
channels:
  - {{name: silent, service: silent}}
  - {{name: gone, service: gone}}
"""
ALIPAY = "schemes: [alipay_v2], timeout: 1s, match: {path: /gateway.do, methods: [GET, POST], signed_parameters: "
ORDER = "fields: {order_no: /biz_content/out_trade_no"
WECHAT = (
    "operation: pay, schemes: [wechat_v3], timeout: 1s, max_body_bytes: 1000, "
    "fields: {order_no: /out_trade_no, amount: /amount/total}"
)
ROUTES = f"""
routes:
  - {{name: precreate, {ALIPAY}{{method: alipay.trade.precreate}}}}, operation: pay, channels: [silent],
     {ORDER}, amount: /biz_content/total_amount}}}}
  - {{name: pay, {ALIPAY}{{method: alipay.trade.pay}}}}, operation: pay, channels: [gone],
     {ORDER}, amount: /biz_content/total_amount}}}}
  - {{name: query, {ALIPAY}{{method: alipay.trade.query}}}}, operation: query, service: silent, {ORDER}}}}}
  - {{name: native, match: {{path: /v3/pay/transactions/native, methods: [POST]}}, {WECHAT}, channels: [silent]}}
  - {{name: app, match: {{path: /v3/pay/transactions/app, methods: [POST]}}, {WECHAT}, channels: [gone]}}
  - name: wechat-query
    match: {{path_template: "/v3/pay/transactions/out-trade-no/{{order_no}}", methods: [GET]}}
    operation: query
    schemes: [wechat_v3]
    service: silent
    timeout: 1s
"""


@dataclass
class Shop:
    stack: LocalStack
    service: Service
    wechat: WeChatPay

    async def alipay(self, sdk: str, call: dict[str, Any]) -> dict[str, Any]:
        url = f"http://{self.stack.ports.address('gateway')}/gateway.do"
        [answer] = await MERCHANTS[sdk](self.stack.keys).call(url, call)
        if sdk == "community":  # raises on what does not name the method, as Envoy cannot; with the code and the words
            assert answer["exception"] == "AliPayException", answer
            found = json.loads(answer["text"].partition("message:")[2])["error_response"]
            assert isinstance(found, dict)
            return found
        return content(answer)

    async def native(self, **more: Any) -> tuple[int, dict[str, str]]:
        order = {"description": "tea", "out_trade_no": order_number(), "amount": {"total": 1}, **more}
        code, message = await asyncio.to_thread(self.wechat.pay, **order)
        return code, json.loads(message)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("answers")
    async with contextlib.AsyncExitStack() as running:
        service = await running.enter_async_context(Service().running())
        held, closed = nobody()
        running.callback(held.close)
        written = folder / "policy.yaml"
        services = f"services: [{{name: silent, {hosts(service.port)}}}, {{name: gone, {hosts(closed)}}}]\n"
        written.write_text(POLICY + services + ROUTES)
        options = StackOptions(policy=(written,), run_dir=folder / "run", ports=Ports.random())
        stack = await running.enter_async_context(LocalStack(options, say=lambda _: None))
        await stack.ready()
        yield Shop(stack, service, wechat(stack))


def wechat(stack: LocalStack) -> WeChatPay:
    sdk = WeChatPay(
        wechatpay_type=WeChatPayType.NATIVE,
        mchid=MCHID,
        private_key=(stack.keys / "wechat_merchant.pem").read_text(),
        cert_serial_no=SERIAL_NO,
        apiv3_key=(stack.keys / "wechat_apiv3.key").read_text(),
        appid="wx8888888888888888",
        notify_url="https://merchant.example/notify",
        public_key=(stack.keys / "wechat_platform_pub.pem").read_text(),
        public_key_id="PUB_KEY_ID_0000000000000000001",
        timeout=(5, 20),
    )
    sdk._core._gate_way = f"http://{stack.ports.address('gateway')}"
    return sdk


@pytest.fixture(autouse=True)
async def _silent(shop: Shop) -> AsyncIterator[None]:
    shop.service.hold = asyncio.Event()
    yield
    shop.service.hold.set()
    shop.service.behave = lambda _: web.Response()


async def test_wechat_a_payment_that_timed_out_is_unknown(shop: Shop) -> None:
    code, said = await shop.native()
    assert (code, said["code"]) == (504, "SYSTEM_ERROR")
    assert UNKNOWN in said["message"]


async def test_wechat_a_payment_whose_connection_broke_is_unknown(shop: Shop) -> None:
    shop.service.hold, shop.service.behave = None, dropped
    code, said = await shop.native()
    shop.service.hold = asyncio.Event()
    assert (code, said["code"]) == (503, "SYSTEM_ERROR")
    assert UNKNOWN in said["message"]


async def test_wechat_a_payment_that_nobody_took_is_not_processed(shop: Shop) -> None:
    code, said = await shop.native(pay_type=WeChatPayType.APP)
    assert (code, said["code"]) == (503, "SYSTEM_ERROR")
    assert NOT_PROCESSED in said["message"]


async def test_wechat_too_large_and_unknown_paths(shop: Shop) -> None:
    code, said = await shop.native(description="x" * 2000)
    assert (code, said["code"]) == (413, "PARAM_ERROR")
    code, message = await asyncio.to_thread(shop.wechat.close, out_trade_no="nowhere")
    assert (code, json.loads(message)["code"]) == (404, "RESOURCE_NOT_EXISTS")


async def test_wechat_a_query_without_an_answer_says_so(shop: Shop) -> None:
    code, message = await asyncio.to_thread(shop.wechat.query, out_trade_no=order_number())
    assert (code, json.loads(message)["code"]) == (504, "SYSTEM_ERROR")
    assert "no whole answer" in message
    assert NOT_PROCESSED not in message


@pytest.mark.parametrize("sdk", ["official", "community"])
async def test_alipay(shop: Shop, sdk: str) -> None:
    unknown = await shop.alipay(sdk, precreate(order_number()))
    assert (unknown["code"], unknown["sub_code"]) == ("20000", "aop.ACQ.SYSTEM_ERROR")
    assert UNKNOWN in unknown["sub_msg"]
    unsent = await shop.alipay(sdk, pay(order_number()))
    assert (unsent["code"], unsent["sub_code"]) == ("20000", "isp.unknow-error")
    assert NOT_PROCESSED in unsent["sub_msg"]


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        ("GET /v3/pay/transactions/native HTTP/1.0", 426, "request_malformed"),  # Envoy answers before it has a path
        ("GET /v3/pay%2ftransactions/native HTTP/1.1", 400, "PARAM_ERROR"),
    ],
)
async def test_what_no_sdk_sends_is_answered_too(shop: Shop, line: str, status: int, code: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", shop.stack.ports.gateway)
    writer.write(f"{line}\r\nhost: gateway\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    said = json.loads(await reader.readexactly(int(length.partition(b":")[2])))
    writer.close()
    assert (int(head.split(b" ")[1]), said["code"]) == (status, code)
