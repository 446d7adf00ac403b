"""The published `wechatpayv3` SDK as a merchant, through the real Envoy, unchanged but for the gateway's address."""

from __future__ import annotations

import asyncio
import json

import pytest
from wechatpayv3 import WeChatPay, WeChatPayType

from paymesh.cli.demo.world import MCHID, SERIAL_NO, World
from paymesh.cli.stack.local_stack import LocalStack

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture(scope="module")
def merchant(stack: LocalStack) -> WeChatPay:
    """The SDK in public-key mode: it verifies every 2xx answer with the platform's key."""
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


async def test_an_order_is_made_and_its_answer_verifies(merchant: WeChatPay, world: World) -> None:
    order = f"sdk-{world.run}-1"
    code, message = await asyncio.to_thread(
        merchant.pay, description="茶叶 250g", out_trade_no=order, amount={"total": 100, "currency": "CNY"}
    )
    assert code == 200, message
    assert json.loads(message)["code_url"].startswith("weixin://")
    code, message = await asyncio.to_thread(merchant.query, out_trade_no=order)
    assert code == 200, message
    assert json.loads(message)["trade_state"] == "NOTPAY"
    headers, body = world.platform.notification(world.notice(order))
    assert (await world.send("POST", "/notify/wechat", headers, body)).status == 204
    code, message = await asyncio.to_thread(merchant.query, out_trade_no=order)
    assert json.loads(message)["trade_state"] == "SUCCESS"


async def test_the_sdk_itself_reads_the_same_notification(merchant: WeChatPay, world: World) -> None:
    """Our notification is what the SDK takes for a genuine one: the demo's provider is no private invention."""
    headers, body = world.platform.notification(world.notice("sdk-note"))
    found = merchant.callback(headers, body)
    assert found["resource"]["out_trade_no"] == "sdk-note"


async def test_a_changed_answer_is_noticed_by_the_sdk(
    merchant: WeChatPay, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verification above is a real one: with another platform key the same call fails."""
    monkeypatch.setattr(merchant._core, "_public_key", world.bookshop.key.public_key())
    with pytest.raises(Exception, match="failed to verify the signature"):
        await asyncio.to_thread(
            merchant.pay, description="tea", out_trade_no=f"sdk-{world.run}-2", amount={"total": 100}
        )


async def test_refusals_are_read_through_the_sdk(
    merchant: WeChatPay, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, message = await asyncio.to_thread(merchant.query, out_trade_no=f"sdk-{world.run}-unknown")
    assert (code, json.loads(message)["code"]) == (404, "ORDER_NOT_EXIST")
    code, message = await asyncio.to_thread(
        merchant.pay, description="tea", out_trade_no=f"sdk-{world.run}-3", amount={"total": 0}
    )
    assert (code, json.loads(message)["code"]) == (400, "PARAM_ERROR")
    assert "/amount/total" in json.loads(message)["message"]
    monkeypatch.setattr(merchant._core, "_cert_serial_no", "00")
    code, message = await asyncio.to_thread(
        merchant.pay, description="tea", out_trade_no=f"sdk-{world.run}-4", amount={"total": 1}
    )
    assert (code, json.loads(message)["code"]) == (401, "SIGN_ERROR")
