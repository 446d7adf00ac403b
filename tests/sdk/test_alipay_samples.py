"""The published Alipay SDKs against the sample trade service: its answers are what the SDKs take for Alipay's."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from aiohttp.test_utils import TestServer

from paymesh.cli.demo.signing import AlipayProvider
from tests.sdk.alipay_merchants import (
    MERCHANTS,
    close,
    community,
    content,
    official,
    order_number,
    pay,
    precreate,
    query,
    refund,
)


@pytest.mark.parametrize("sdk", MERCHANTS)
async def test_an_orders_life(trade: TestServer, sdk_keys: Path, sdk: str) -> None:
    paid, closed = order_number(), order_number()
    answers = await MERCHANTS[sdk](sdk_keys).call(
        str(trade.make_url("/gateway.do")),
        precreate(closed),
        query(closed),
        close(closed),
        query(closed),
        pay(paid),
        query(paid),
        refund(paid, "8.88"),
        close(paid),
    )
    created, waiting, closing, after, paying, done, refunded, too_late = map(content, answers)
    assert created["qr_code"].startswith("https://qr.alipay.")
    assert [a["trade_status"] for a in (waiting, after, done)] == ["WAIT_BUYER_PAY", "TRADE_CLOSED", "TRADE_SUCCESS"]
    assert (closing["code"], paying["total_amount"], refunded["refund_fee"]) == ("10000", "88.88", "8.88")
    assert (too_late["code"], too_late["sub_code"]) == ("40004", "ACQ.TRADE_STATUS_ERROR")


async def test_gbk_both_ways(trade: TestServer, sdk_keys: Path) -> None:
    number = order_number()
    merchant = official(sdk_keys)
    [answer] = await merchant.call(str(trade.make_url("/gateway.do")), {**precreate(number), "charset": "gbk"})
    assert content(answer)["out_trade_no"] == number


@pytest.mark.parametrize("sdk", MERCHANTS)
async def test_the_sdk_verifies_what_it_shows(trade: TestServer, sdk_keys: Path, sdk: str) -> None:
    """The verifications above are real ones: with another platform key the same answer is refused."""
    other = (sdk_keys / "wechat_platform_pub.pem").read_text()
    changed = {"alipay_public_key": other, "alipay_certificate": (sdk_keys / "unionpay_provider.crt").read_text()}
    [answer] = await MERCHANTS[sdk](sdk_keys).call(
        str(trade.make_url("/gateway.do")), {**query(order_number()), "keys": changed}
    )
    assert answer["exception"] in ("ResponseException", "AliPayValidationError")


async def test_the_sdk_reads_our_notification(sdk_keys: Path) -> None:
    """The demo's provider is no private invention."""
    provider = AlipayProvider.from_folder(sdk_keys)
    headers, body = provider.notification({"out_trade_no": "n-1", "total_amount": "88.88", "subject": "测试 &A=1"})
    assert headers["Content-Type"].startswith("application/x-www-form-urlencoded")
    fields = dict(parse_qsl(body.decode()))
    genuine = {"action": "verify_notification", "fields": fields}
    forged = {"action": "verify_notification", "fields": {**fields, "total_amount": "0.01"}}
    assert await community(sdk_keys).call("", genuine, forged) == [{"result": True}, {"result": False}]
