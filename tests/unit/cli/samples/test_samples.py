"""The sample services over HTTP, as the gateway meets them; and WeChat Pay's published SDK as their judge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from wechatpayv3 import WeChatPay, WeChatPayType

from paymesh.cli.samples.simulators import build_alipay, build_card, build_offline, build_wechat
from paymesh.cli.samples.trade import build_trade

Client = TestClient[web.Request, web.Application]
NATIVE, NOTIFY = "/v3/pay/transactions/native", "/notify/wechat"
BOOKSHOP = {"x-pay-merchant": "bookshop", "x-pay-channel": "wechat"}


class World:
    """The simulators and both versions of trade, on free ports."""

    def __init__(self, wechat: Client, alipay: Client, card: Client, offline: Client, trade: list[Client]) -> None:
        self.wechat, self.alipay, self.card, self.offline = wechat, alipay, card, offline
        self.v1, self.v2 = trade


@pytest.fixture
async def world(demo_keys: Path, tmp_path: Path) -> AsyncIterator[World]:
    clients = [
        TestClient(TestServer(build(demo_keys))) for build in (build_wechat, build_alipay, build_card, build_offline)
    ]
    for client in clients:
        await client.start_server()
    wechat, alipay = (str(client.make_url("")).rstrip("/") for client in clients[:2])
    trade = [
        TestClient(TestServer(build_trade(tmp_path / "trade.sqlite", version, wechat, alipay, demo_keys)))
        for version in ("v1", "v2")
    ]
    for client in trade:
        await client.start_server()
    yield World(*clients, trade)  # type: ignore[arg-type]
    for client in [*trade, *clients]:
        await client.close()


@pytest.fixture
def sdk(demo_keys: Path) -> WeChatPay:
    return WeChatPay(
        wechatpay_type=WeChatPayType.NATIVE,
        mchid="1900007291",
        private_key=(demo_keys / "wechat_merchant.pem").read_text(),
        cert_serial_no="408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB",
        apiv3_key=(demo_keys / "wechat_apiv3.key").read_text(),
        appid="wx8888888888888888",
        public_key=(demo_keys / "wechat_platform_pub.pem").read_text(),
        public_key_id="PUB_KEY_ID_0000000000000000001",
    )


def order(number: str = "o-1", total: int = 100) -> dict[str, Any]:
    return {
        "appid": "wx8888888888888888",
        "mchid": "1900007291",
        "out_trade_no": number,
        "amount": {"total": total, "currency": "CNY"},
    }


def verifies(sdk: WeChatPay, headers: Any, body: bytes) -> bool:
    return bool(sdk._core._verify_signature(dict(headers), body.decode()))


async def test_a_wechat_order_is_answered_with_the_providers_signature(world: World, sdk: WeChatPay) -> None:
    answers = [await world.v1.post(NATIVE, json=order(), headers=BOOKSHOP) for _ in range(2)]
    bodies = [await answer.read() for answer in answers]
    assert [answer.status for answer in answers] == [200, 200]
    assert bodies[0] == bodies[1]
    assert json.loads(bodies[0])["code_url"].startswith("weixin://")
    assert verifies(sdk, answers[0].headers, bodies[0])
    assert not verifies(sdk, answers[0].headers, bodies[0] + b" ")


async def test_another_amount_under_the_same_number_is_refused(world: World) -> None:
    await world.v1.post(NATIVE, json=order(), headers=BOOKSHOP)
    answer = await world.v2.post(NATIVE, json=order(total=1), headers=BOOKSHOP)
    assert (answer.status, (await answer.json())["code"]) == (400, "INVALID_REQUEST")


async def test_the_notification_pays_the_order_once(world: World, sdk: WeChatPay) -> None:
    await world.v1.post(NATIVE, json=order(), headers=BOOKSHOP)
    url = str(world.v2.make_url(NOTIFY))
    # The simulator speaks to trade as the gateway would pass it on: with the merchant's name.
    sent = await (await world.wechat.post("/_sample/notify", json={"order": order()})).json()
    found = sdk.callback(sent["headers"], sent["body"])
    assert found["resource"]["out_trade_no"] == "o-1"
    assert found["resource"]["trade_state"] == "SUCCESS"
    assert sdk.callback(sent["headers"], sent["body"].replace("EV-", "EX-")) is None
    for _ in range(2):
        answer = await world.v2.post(NOTIFY, data=sent["body"], headers={**sent["headers"], **BOOKSHOP})
        assert (answer.status, await answer.read()) == (204, b"")
    query = await world.v1.get("/v3/pay/transactions/out-trade-no/o-1?mchid=1900007291", headers=BOOKSHOP)
    body = await query.read()
    assert verifies(sdk, query.headers, body)
    state = json.loads(body)
    assert (state["trade_state"], state["amount"]) == ("SUCCESS", {"total": 100, "currency": "CNY"})
    # Sent by the simulator itself there is no gateway, so trade finds no such merchant's order.
    told = await (await world.wechat.post("/_sample/notify", json={"order": order(), "url": url})).json()
    assert told["status"] == 404


async def test_a_notification_about_another_amount_changes_nothing(world: World) -> None:
    await world.v1.post(NATIVE, json=order(), headers=BOOKSHOP)
    sent = await (await world.wechat.post("/_sample/notify", json={"order": order(total=1)})).json()
    answer = await world.v1.post(NOTIFY, data=sent["body"], headers={**sent["headers"], **BOOKSHOP})
    assert answer.status == 404
    query = await world.v1.get("/v3/pay/transactions/out-trade-no/o-1", headers=BOOKSHOP)
    assert (await query.json())["trade_state"] == "NOTPAY"


async def test_a_notification_without_an_order_or_a_receiver_is_said(world: World) -> None:
    assert (await world.wechat.post("/_sample/notify", json={})).status == 400
    nobody = {"order": order(), "url": "http://127.0.0.1:1/"}
    assert (await world.wechat.post("/_sample/notify", json=nobody)).status == 502


async def test_an_unknown_order_is_not_found_in_the_protocol(world: World, sdk: WeChatPay) -> None:
    answer = await world.v1.get("/v3/pay/transactions/out-trade-no/none", headers=BOOKSHOP)
    assert (answer.status, (await answer.json())["code"]) == (404, "ORDER_NOT_EXIST")
    generic = await world.v1.get("/v1/payments/none", headers=BOOKSHOP)
    assert (generic.status, (await generic.json())["code"]) == (404, "order_unknown")


@pytest.mark.parametrize(("channel", "prefix"), [("alipay", "https://qr.alipay."), ("wechat", "weixin://")])
async def test_a_generic_order_gets_a_qr_code(world: World, channel: str, prefix: str) -> None:
    caller = {"x-pay-merchant": "teahouse", "x-pay-channel": channel}
    payment = {"order_no": "g-1", "amount": {"total": 100, "currency": "CNY"}}
    answer = await (await world.v1.post("/v1/payments", json=payment, headers=caller)).json()
    assert answer["qr_code"].startswith(prefix)
    assert (answer["status"], answer["channel"]) == ("ACCEPTED", channel)
    found = await (await world.v2.get("/v1/payments/g-1", headers=caller)).json()
    assert (found["status"], found["channel"]) == ("ACCEPTED", channel)
    payment["amount"] = {"total": 1, "currency": "CNY"}
    assert (await world.v2.post("/v1/payments", json=payment, headers=caller)).status == 409


@pytest.mark.parametrize(
    ("pan", "status", "said"), [("622202******7894", 200, "SUCCEEDED"), ("622202******0002", 402, "REFUSED")]
)
async def test_a_card_is_judged_by_its_last_four_digits(world: World, pan: str, status: int, said: str) -> None:
    payment = {"order_no": "c-1", "amount": {"total": 100, "currency": "CNY"}, "card": {"pan": pan}}
    answer = await world.card.post("/v1/payments", json=payment, headers={"x-pay-channel": "card"})
    assert (answer.status, (await answer.json())["status"]) == (status, said)


async def test_an_offline_payment_is_accepted(world: World) -> None:
    answer = await world.offline.post("/v1/payments", json={"order_no": "f-1"}, headers={"x-pay-channel": "offline"})
    assert (await answer.json()) == {"order_no": "f-1", "status": "ACCEPTED", "channel": "offline"}


async def test_what_was_received_can_be_seen_by_request_id(world: World) -> None:
    for number in range(3):
        headers = {"x-request-id": f"r-{number}", "X-Pay-Channel": "offline"}
        await world.offline.post(f"/v1/payments?n={number}", json={"order_no": f"号-{number}"}, headers=headers)
    (found,) = await (await world.offline.get("/_sample/received?request_id=r-1")).json()
    assert (found["method"], found["path"]) == ("POST", "/v1/payments?n=1")
    assert found["headers"]["x-pay-channel"] == "offline"
    assert json.loads(found["body"]) == {"order_no": "号-1"}
    assert await (await world.offline.get("/_sample/received?request_id=unknown")).json() == []
    assert len(await (await world.offline.get("/_sample/received")).json()) == 3


async def test_only_the_last_thousand_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.gather(*(world.offline.post("/v1/payments", json={"order_no": "x"}) for _ in range(1005)))
    assert len(await (await world.offline.get("/_sample/received")).json()) == 1000


async def test_each_answer_names_its_version(world: World) -> None:
    for client, version in ((world.v1, "v1"), (world.v2, "v2"), (world.card, "v1")):
        answer = await client.get("/healthz")
        assert (answer.status, answer.headers["x-sample-version"]) == (200, version)
