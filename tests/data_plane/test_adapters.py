"""Generic orders through the real Envoy to providers that verify every signature, and back as the merchant reads it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer

from paymesh.cli.demo.http_signing import HttpSignatureMerchant
from paymesh.cli.demo.world import Answer, World
from paymesh.cli.stack.local_stack import DEMO_POLICY, LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from paymesh.payments.events.log import START
from paymesh.payments.events.sqlite_log import SqliteLog
from paymesh.payments.events.types import Ended, Result, ToldBy
from tests.channels import fifth_bank_simulator

CHANNELS = Path(fifth_bank_simulator.__file__).parent
pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
# A channel of somebody's own: one Python file on the path of the services, and this.
FIFTH = """
channels:
  - name: fifth
    service: fifth
    operations: [pay, query, refund]
    adapter: {name: "fifth_bank:ADAPTER", account: shop-5, secret: {file: fifth.key}}
services:
  - {name: fifth, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: PORT}]}]}
routes:
  - name: fifth
    match: {path: /v1/fifth, methods: [POST]}
    operation: pay
    schemes: [http_signature]
    fields: {order_no: /order_no, amount: /amount/total, currency: /amount/currency, product: /product}
    channels: [fifth]
  - name: fifth-query
    match: {path_template: "/v1/fifth/{order_no}", methods: [GET]}
    operation: query
    schemes: [http_signature]
    fields: {order_no: /order_no, order_no_place: path}
    channels: [fifth]
"""
PROVIDERS = {"wechat_qr": "wechat", "alipay_qr": "alipay", "unionpay_qr": "unionpay"}


@dataclass
class Shop:
    stack: LocalStack
    world: World
    merchant: HttpSignatureMerchant
    session: aiohttp.ClientSession
    log: SqliteLog
    events: Path

    async def ask(self, method: str, target: str, document: object = None) -> Answer:
        request = self.merchant.request(method, target, document)
        return await self.world.send(request.method, request.target, request.headers, request.body)

    async def pay(self, order_no: str, product: str = "qr", **changed: object) -> Answer:
        order: dict[str, object] = {
            "order_no": order_no,
            "amount": {"total": 1234, "currency": "CNY"},
            "product": product,
            "subject": "茶叶 250g",
        }
        return await self.ask("POST", "/v1/charges", {**order, **changed})

    async def at(self, provider: str, path: str, document: object = None) -> Any:
        url = f"http://{self.stack.ports.address(provider)}/_sample/{path}"
        if document is None:
            async with self.session.get(url) as answer:
                return await answer.json()
        async with self.session.post(url, json=document) as answer:
            return await answer.json()

    async def books(self, provider: str, order_no: str) -> list[dict[str, Any]]:
        return [one for one in await self.at(provider, "orders") if one["order_no"] == order_no]

    async def resolve(self) -> int:
        """As an operator does it; the exit code."""
        named = ("--events", f"sqlite:{self.events}", "--policy", str(DEMO_POLICY))
        environ = {**os.environ, "PAYMESH_DEMO_KEYS": str(self.stack.keys)}
        for name in ("wechat", "alipay", "unionpay"):
            environ[f"PAYMESH_{name.upper()}_PORT"] = str(getattr(self.stack.ports, name))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "paymesh.cli", "payments", "resolve", *named, env=environ
        )
        return await process.wait()

    async def result(self, order_no: str) -> Result | None:
        """Of its only attempt, once its end was told."""
        async with asyncio.timeout(20):
            while True:
                (known,) = await self.log.of_order("cinema", order_no)
                if known.result is not None:
                    return known.result
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("adapters")
    run_dir = folder / "run"
    (folder / "fifth.key").write_bytes(fifth_bank_simulator.SECRET)
    bank = TestServer(fifth_bank_simulator.build_fifth_bank(folder))
    await bank.start_server()
    (folder / "fifth.yaml").write_text(FIFTH.replace("PORT", str(bank.port)))
    options = StackOptions(policy=(DEMO_POLICY, folder / "fifth.yaml"), run_dir=run_dir, ports=Ports.random())
    known = os.environ.get("PYTHONPATH")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(CHANNELS), *([known] if known else [])]))
        async with LocalStack(options, say=lambda _: None) as stack:
            await stack.ready()
            events = run_dir / "data" / "events.sqlite"
            log = SqliteLog(events, deadline_s=20)
            gateway = stack.ports.address("gateway")
            merchant = HttpSignatureMerchant.from_file(
                "cinema-2026", stack.keys / "http_signature.pem", f"http://{gateway}"
            )
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
                yield Shop(stack, World(session, gateway, stack.keys, {}), merchant, session, log, events)
            await log.close()
    await bank.close()


@pytest.fixture
def order_no() -> str:
    return uuid.uuid4().hex[:24]


@pytest.mark.parametrize("product", PROVIDERS)
async def test_an_order_is_paid_asked_for_and_refunded(shop: Shop, order_no: str, product: str) -> None:
    provider = PROVIDERS[product]
    paid = await shop.pay(order_no, product)
    assert paid.status == 200, (paid.body, paid.headers)
    assert (paid.document["order_no"], paid.document["status"]) == (order_no, "ACCEPTED")
    assert paid.document["channel"] == f"{provider}-direct"
    assert str(paid.document["code_url"])
    assert not [name for name in paid.headers if name.startswith("wechatpay-")]
    assert await shop.result(order_no) is Result.ACCEPTED
    (entry,) = await shop.books(provider, order_no)
    assert (entry["amount"], entry["subject"]) == ({"total": 1234, "currency": "CNY"}, shop_subject(provider))

    waits = await shop.ask("GET", f"/v1/charges/{order_no}")
    assert (waits.status, waits.document["status"]) == (200, "ACCEPTED"), waits.body
    await shop.at(provider, "pay", {"order_no": order_no})
    known = await shop.ask("GET", f"/v1/charges/{order_no}")
    assert known.document["status"] == "SUCCEEDED", known.body
    assert known.document["amount"] == {"total": 1234, "currency": "CNY"}

    refund = {
        "refund_no": f"R{order_no}",
        "amount": {"total": 34, "currency": "CNY"},
        "channel_order_no": known.document["channel_order_no"],
    }
    for _ in range(2):  # the second is the same refund again
        back = await shop.ask("POST", f"/v1/charges/{order_no}/refunds", refund)
        assert back.status == 200, back.body
        assert back.document["status"] in ("SUCCEEDED", "ACCEPTED"), back.body
        assert (back.document["order_no"], back.document["refund_no"]) == (order_no, f"R{order_no}")
    (entry,) = await shop.books(provider, order_no)
    assert (entry["paid_times"], entry["refunded"]) == (1, 34)


def shop_subject(provider: str) -> str:
    return "{commodityName=茶叶 250g}" if provider == "unionpay" else "茶叶 250g"


async def test_what_a_provider_receives_is_its_own(shop: Shop, order_no: str) -> None:
    """Nothing of the merchant's request but what the order says: no credential, no internal header."""
    answer = await shop.pay(order_no, "alipay_qr")
    url = f"http://{shop.stack.ports.address('alipay')}/_sample/received?request_id={answer.request_id}"
    async with shop.session.get(url) as response:
        found = await response.json()
    received = found[0] if isinstance(found, list) else found
    assert (received["method"], received["path"]) == ("POST", "/gateway.do")
    names = set(received["headers"])
    assert not {name for name in names if name.startswith(("x-pay-", "signature", "content-digest", "x-forwarded-for"))}
    assert received["headers"]["content-length"] == str(len(received["body"]))


async def test_an_order_that_no_provider_could_take_is_refused_by_field(shop: Shop, order_no: str) -> None:
    for product, field in (("auth_code", "/auth_code"), ("jsapi", "/payer/id")):
        refused = await shop.pay(order_no, product)
        assert (refused.status, refused.reason) == (400, "field_invalid"), refused.body
        assert field in refused.body.decode()
    assert await shop.log.of_order("cinema", order_no) == []


async def test_a_repeat_is_the_same_order_at_its_own_provider(shop: Shop, order_no: str) -> None:
    first = await shop.pay(order_no, "unionpay_qr")
    await asyncio.sleep(1.1)  # so that another time would be another order to UnionPay
    again = await shop.pay(order_no, "unionpay_qr")
    assert (first.status, again.status) == (200, 200)
    assert len(await shop.books("unionpay", order_no)) == 1


async def test_an_unsigned_answer_is_not_believed(shop: Shop, order_no: str) -> None:
    await shop.at("alipay", "faults", {"kind": "tampered", "share": 1})
    try:
        answer = await shop.pay(order_no, "alipay_qr")
    finally:
        await shop.at("alipay", "faults", {"kind": "none"})
    assert (answer.status, answer.document["status"]) == (202, "PENDING")
    assert await shop.result(order_no) is Result.UNKNOWN
    (entry,) = await shop.books("alipay", order_no)
    assert entry["paid_times"] == 0
    asked = await shop.ask("GET", f"/v1/charges/{order_no}")
    assert asked.document["status"] == "ACCEPTED", asked.body


async def test_an_unknown_end_is_learnt_from_the_channel(shop: Shop, order_no: str) -> None:
    await shop.at("unionpay", "faults", {"kind": "lost", "share": 1})
    try:
        answer = await shop.pay(order_no, "unionpay_qr")
        assert (answer.status, answer.document["status"]) == (202, "PENDING")
        assert await shop.result(order_no) is Result.UNKNOWN
        await shop.at("unionpay", "pay", {"order_no": order_no})
        # While the channel's word is not to be had the end stays unknown.
        assert await shop.resolve() == 1
    finally:
        await shop.at("unionpay", "faults", {"kind": "none"})
    await shop.resolve()
    (known,) = await shop.log.of_order("cinema", order_no)
    assert known.result is Result.SUCCEEDED
    ends = [one.event for one in await shop.log.read(START, 100_000) if isinstance(one.event, Ended)]
    told = [end.told_by for end in ends if end.attempt_id == known.attempted.attempt_id]
    assert told[-1] is ToldBy.RESOLVER


async def test_a_provider_that_is_away_took_nothing(shop: Shop, order_no: str) -> None:
    """Envoy's own answer is no provider's word: it says that nothing was sent."""
    shop.stack.kill("wechat")
    answer = await shop.pay(order_no, "wechat_qr")
    assert answer.status in (200, 503), answer.body
    if answer.status == 503:
        assert answer.reason == "unavailable"
        assert await shop.result(order_no) is Result.UNSENT
    await shop.stack.wait_ready("wechat")


async def test_a_channel_of_ones_own_is_an_adapter_and_a_policy(shop: Shop, order_no: str) -> None:
    order = {"order_no": order_no, "amount": {"total": 7, "currency": "CNY"}, "product": "qr", "subject": "茶"}
    paid = await shop.ask("POST", "/v1/fifth", order)
    assert (paid.status, paid.document["status"], paid.document["channel"]) == (200, "ACCEPTED", "fifth"), paid.body
    asked = await shop.ask("GET", f"/v1/fifth/{order_no}")
    assert (asked.status, asked.document["status"]) == (200, "ACCEPTED"), asked.body
    assert await shop.result(order_no) is Result.ACCEPTED


async def test_an_order_that_never_passed_here_is_not_asked_for(shop: Shop, order_no: str) -> None:
    answer = await shop.ask("GET", f"/v1/charges/{order_no}")
    assert (answer.status, answer.reason) == (404, "order_unknown"), answer.body


async def test_a_close_follows_its_order(shop: Shop, order_no: str) -> None:
    await shop.pay(order_no, "wechat_qr")
    closed = await shop.ask("POST", f"/v1/charges/{order_no}/close", {})
    assert (closed.status, closed.document["status"]) == (200, "SUCCEEDED"), closed.body
    (entry,) = await shop.books("wechat", order_no)
    assert entry["state"] == "CLOSED"
    assert json.loads(closed.body)["operation"] == "close"
