"""The published Alipay SDKs through the real Envoy: accepted unchanged, and every refusal read as what it means."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from yarl import URL

from paymesh.cli.demo.alipay_signing import sorted_text
from paymesh.cli.demo.signing import load_key
from paymesh.cli.samples.alipay_trade import parameters_of
from paymesh.cli.stack.local_stack import LocalStack
from tests.sdk.alipay_merchants import (
    LIMITED_APP_ID,
    MERCHANTS,
    READER_APP_ID,
    close,
    content,
    order_number,
    pay,
    pkcs1,
    precreate,
    query,
    refund,
)

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="session")]

BOTH = ("official", "community")


async def through(
    shops: LocalStack, sdk: str, *calls: Mapping[str, Any], keys: Mapping[str, str] | None = None, **options: str
) -> list[dict[str, Any]]:
    url = f"http://{shops.ports.address('gateway')}/gateway.do"
    changed = [{**call, "keys": dict(keys or {})} for call in calls]
    return await MERCHANTS[sdk](shops.keys).call(url, *changed, **options)


@pytest.mark.parametrize("sdk", MERCHANTS)
async def test_an_orders_life(shops: LocalStack, sdk: str) -> None:
    paid, closed = order_number(), order_number()
    answers = await through(
        shops, sdk, precreate(closed), query(closed), close(closed), pay(paid), query(paid), refund(paid, "8.88")
    )
    created, waiting, closing, paying, done, refunded = map(content, answers)
    assert created["qr_code"].startswith("https://qr.alipay.")
    assert (waiting["trade_status"], done["trade_status"]) == ("WAIT_BUYER_PAY", "TRADE_SUCCESS")
    assert (closing["code"], paying["total_amount"], refunded["refund_fee"]) == ("10000", "88.88", "8.88")


async def test_gbk(shops: LocalStack) -> None:
    number = order_number()
    [answer] = await through(shops, "official", {**precreate(number), "charset": "gbk"})
    assert content(answer)["out_trade_no"] == number


@pytest.mark.parametrize("sdk", BOTH)
async def test_what_arrives_is_what_was_signed(shops: LocalStack, http: aiohttp.ClientSession, sdk: str) -> None:
    """The service could verify the merchant's signature itself: query and body reach it as the SDK wrote them."""
    number = order_number()
    content((await through(shops, sdk, precreate(number)))[0])
    async with http.get(f"http://{shops.ports.address('trade_v1')}/_sample/received") as response:
        received = await response.json()
    [seen] = [entry for entry in received if number in entry["path"] + entry["body"]]
    parameters = parameters_of(seen["path"].partition("?")[2], seen["body"].encode())
    signature = base64.b64decode(parameters.pop("sign"))
    _verify(shops.keys / "alipay_merchant.pem", signature, sorted_text(parameters).encode())
    assert seen["headers"]["x-pay-merchant"] == "shop"


@pytest.mark.parametrize("sdk", BOTH)
async def test_another_key_is_an_invalid_signature(shops: LocalStack, sdk: str) -> None:
    key = shops.keys / "wechat_merchant.pem"
    keys = {"private_key": pkcs1(key) if sdk == "official" else key.read_text()}
    [answer] = await through(shops, sdk, precreate(order_number()), keys=keys)
    assert refused(answer) == ("40002", "isv.invalid-signature")


@pytest.mark.parametrize("sdk", BOTH)
async def test_an_unknown_app_is_told_no_more_than_that(shops: LocalStack, sdk: str) -> None:
    [answer] = await through(shops, sdk, query(order_number()), keys={"app_id": "2021999999999999"})
    assert refused(answer) == ("40002", "isv.invalid-signature")


@pytest.mark.parametrize("sdk", BOTH)
async def test_a_clock_hours_off_is_an_invalid_timestamp(shops: LocalStack, sdk: str) -> None:
    """What happens to a merchant whose machine does not keep Chinese time."""
    for timezone in ("UTC0", "JST-9"):
        [answer] = await through(shops, sdk, query(order_number()), timezone=timezone)
        assert refused(answer) == ("40002", "isv.invalid-timestamp")


@pytest.mark.parametrize("sdk", BOTH)
async def test_what_the_merchant_may_not_do_is_a_missing_permission(shops: LocalStack, sdk: str) -> None:
    asked, done = await through(
        shops, sdk, query(order_number()), precreate(order_number()), keys={"app_id": READER_APP_ID}
    )
    assert refused(asked) == ("40004", "ACQ.TRADE_NOT_EXIST")  # by the service: the gateway let it ask
    assert refused(done) == ("40006", "isv.insufficient-isv-permissions")


@pytest.mark.parametrize("sdk", BOTH)
@pytest.mark.parametrize("amount", ["0.00", "1.001", "-1", "1e2", "８８.88"])
async def test_an_amount_that_is_none_is_an_invalid_parameter(shops: LocalStack, sdk: str, amount: str) -> None:
    [answer] = await through(shops, sdk, precreate(order_number(), amount))
    assert refused(answer) == ("40002", "isv.invalid-parameter")


@pytest.mark.parametrize("sdk", BOTH)
async def test_one_number_for_two_orders_is_inconsistent(shops: LocalStack, sdk: str) -> None:
    number = order_number()
    first, again, other = await through(shops, sdk, precreate(number), precreate(number), precreate(number, "0.01"))
    assert content(first) == content(again)
    assert refused(other) == ("40004", "ACQ.CONTEXT_INCONSISTENT")


@pytest.mark.parametrize("sdk", BOTH)
async def test_more_than_its_allowance_is_a_call_limit(shops: LocalStack, sdk: str) -> None:
    calls = [query(order_number()) for _ in range(8)]
    answers = await through(shops, sdk, *calls, keys={"app_id": LIMITED_APP_ID})
    assert ("40005", "isv.app-call-limited") in map(refused, answers)


@pytest.mark.parametrize("sdk", BOTH)
async def test_a_method_that_no_route_has_is_an_invalid_method(shops: LocalStack, sdk: str) -> None:
    call = {"action": "cancel", "biz_content": {"out_trade_no": order_number()}}
    [answer] = await through(shops, sdk, call)
    assert refused(answer) == ("40002", "isv.invalid-method")


@pytest.mark.parametrize("sdk", BOTH)
async def test_an_outage_is_an_outage_and_no_refusal(shops: LocalStack, sdk: str) -> None:
    pid = shops.pid("ext_authz")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        [answer] = await through(shops, sdk, precreate(order_number()))
    finally:
        os.kill(pid, signal.SIGCONT)
    code, sub_code = refused(answer)
    assert (code, sub_code.endswith("unknow-error")) == ("20000", True)


async def test_a_replayed_payment_makes_no_second_one(shops: LocalStack, http: aiohttp.ClientSession) -> None:
    """Alipay v2 has no nonce: the same bytes again are the same order again, and marked so."""
    number = order_number()
    content((await through(shops, "official", pay(number)))[0])
    address = shops.ports.address("trade_v1")
    async with http.get(f"http://{address}/_sample/received") as response:
        [seen] = [entry for entry in await response.json() if number in entry["path"] + entry["body"]]
    headers = {"Content-Type": seen["headers"]["content-type"]}
    url = f"http://{shops.ports.address('gateway')}{seen['path']}"

    async with http.post(URL(url, encoded=True), data=seen["body"].encode(), headers=headers) as response:
        again = await response.json(content_type=None)
    assert again["alipay_trade_pay_response"]["code"] == "10000"
    async with http.get(f"http://{address}/_sample/received") as response:
        repeated = [entry for entry in await response.json() if number in entry["path"] + entry["body"]]
    assert ["x-pay-replay" in entry["headers"] for entry in repeated] == [False, True]


def refused(answer: Mapping[str, Any]) -> tuple[str, str]:
    """Code and sub code as the merchant reads them: from a verified answer, or in the exception's text."""
    if "result" in answer:
        found = content(answer)
        assert found.get("sub_code"), found
        return found["code"], found["sub_code"]
    # python-alipay-sdk raises for `error_response`, with the whole text.
    assert answer["exception"] == "AliPayException", answer
    text = answer["text"]
    return text.split("code:")[1].split(",")[0], text.split('"sub_code":"')[1].split('"')[0]


def _verify(key: Path, signature: bytes, text: bytes) -> None:

    load_key(key).public_key().verify(signature, text, PKCS1v15(), SHA256())
