"""What stands in the event log of a running gateway, whatever becomes of a payment."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.world import Answer, World
from paymesh.cli.stack.local_stack import DEMO_POLICY, LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from paymesh.payments.events.log import START, Known
from paymesh.payments.events.sqlite_log import SqliteLog
from paymesh.payments.events.types import Ended, Notified, Result, ToldBy

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
# The demo's `payments` route, and one beside it whose channels take the same product.
POLICY = """
channels:
  - {name: dear, service: card, products: [voucher], priority: 20}
  - {name: cheap, service: offline, products: [voucher], priority: PRIORITY}
  - {name: closed, service: nowhere, products: [nowhere]}
services:
  - {name: nowhere, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 1}]}]}
routes:
  - name: vouchers
    match: {path: /v1/payments, methods: [POST], headers: [{name: x-vouchers, exact: "yes"}]}
    operation: pay
    timeout: 1s
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount/total, currency: /amount/currency, product: /product}
    channels: [dear, cheap, closed]
"""


@dataclass
class Shop:
    stack: LocalStack
    world: World
    log: SqliteLog
    policy: Path

    async def voucher(self, order_no: str, product: str = "voucher", **more: object) -> Answer:
        return await self.world.pay(payment(order_no, product, **more), extra={"x-vouchers": "yes"})

    async def order(self, order_no: str) -> Sequence[Known]:
        return await self.log.of_order("teahouse", order_no)

    async def ends(self, attempt_id: str) -> list[Ended]:
        found = [one.event for one in await self.log.read(START, 100_000)]
        return [one for one in found if isinstance(one, Ended) and one.attempt_id == attempt_id]

    async def ended(self, order_no: str) -> tuple[Result, ToldBy]:
        """Waits for it: the access log follows the answer."""
        async with asyncio.timeout(20):
            while True:
                for known in await self.order(order_no):
                    if known.result is not None:
                        (end,) = await self.ends(known.attempted.attempt_id)
                        return known.result, end.told_by
                await asyncio.sleep(0.02)

    async def until_it_pays(self) -> None:
        async with asyncio.timeout(30):
            while (await self.world.pay(payment(uuid.uuid4().hex, "card"))).status != 200:
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("events")
    policy = folder / "vouchers.yaml"
    policy.write_text(POLICY.replace("PRIORITY", "30"))
    options = StackOptions(policy=(DEMO_POLICY, policy), run_dir=folder / "run", ports=Ports.random())
    async with LocalStack(options, say=lambda _: None) as stack:
        await stack.ready()
        log = SqliteLog(folder / "run" / "data" / "events.sqlite", deadline_s=20)
        samples = {name: stack.ports.address(name) for name in ("card", "offline")}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            world = World(session, stack.ports.address("gateway"), stack.keys, samples)
            yield Shop(stack, world, log, policy)
        await log.close()


@pytest.fixture
def order_no() -> str:
    return uuid.uuid4().hex


async def test_when_the_caller_hears_it_it_is_recorded(shop: Shop, order_no: str) -> None:
    answer = await shop.world.pay(payment(order_no, "card"))
    (known,) = await shop.order(order_no)
    assert (answer.status, known.result) == (200, Result.SUCCEEDED)
    attempt = known.attempted
    assert (attempt.attempt_id, attempt.amount, attempt.currency) == (answer.request_id, 1000, "CNY")
    assert (attempt.channel, attempt.service, attempt.route, attempt.product) == ("card", "card", "payments", "card")
    assert [end.told_by for end in await shop.ends(attempt.attempt_id)] == [ToldBy.ANSWER]


async def test_accepted_is_not_succeeded_and_a_refusal_is_certain(shop: Shop, order_no: str) -> None:
    wechat = await shop.world.wechat_order(order_no)
    assert wechat.status == 200
    (known,) = await shop.log.of_order("bookshop", order_no)
    assert known.result is Result.ACCEPTED
    declined = await shop.world.pay(payment(order_no, "card", card={"pan": "6222020000000002"}))
    (known,) = await shop.order(order_no)
    assert (declined.document.get("status"), known.result) == ("REFUSED", Result.REFUSED)


async def test_what_is_refused_here_is_no_attempt(shop: Shop, order_no: str) -> None:
    assert (await shop.world.pay(payment(order_no, "nothing"))).reason == "channel_none"
    assert await shop.order(order_no) == []


async def test_a_service_that_cannot_be_reached_has_not_seen_it(shop: Shop, order_no: str) -> None:
    answer = await shop.voucher(order_no, "nowhere")
    assert answer.status == 503
    assert await shop.ended(order_no) == (Result.UNSENT, ToldBy.ACCESS_LOG)


async def test_a_service_that_says_nothing_leaves_it_unknown(shop: Shop, order_no: str) -> None:
    # Two seconds, and the route waits for one.
    answer = await shop.voucher(order_no, card={"pan": "6222020000000044"})
    assert answer.document["code"] == "outcome_unknown"
    assert await shop.ended(order_no) == (Result.UNKNOWN, ToldBy.ACCESS_LOG)
    assert order_no in [one.attempted.order_no for one in await shop.log.unresolved()]


async def test_without_ext_proc_the_access_log_tells(shop: Shop, order_no: str) -> None:
    shop.stack.kill("ext_proc")
    assert (await shop.voucher(order_no)).status == 200, "watching must never turn an answer into a refusal"
    assert await shop.ended(order_no) == (Result.UNKNOWN, ToldBy.ACCESS_LOG)
    await shop.stack.wait_ready("ext_proc")
    await shop.until_it_pays()


async def test_a_caller_that_goes_away_leaves_no_attempt_without_an_end(shop: Shop, order_no: str) -> None:
    going = asyncio.create_task(shop.world.pay(payment(order_no, "card", card={"pan": "6222020000000044"})))
    await asyncio.sleep(0.3)
    going.cancel()
    result, _ = await shop.ended(order_no)
    assert result in (Result.UNKNOWN, Result.SUCCEEDED)


async def test_an_order_whose_attempt_the_shared_store_forgot_follows_its_first_channel(
    shop: Shop, order_no: str
) -> None:
    assert (await shop.voucher(order_no)).status == 200
    shop.policy.write_text(POLICY.replace("PRIORITY", "10"))  # now the other channel would be first
    shop.stack.kill("ext_authz")  # its memory was the shared store
    await shop.stack.wait_ready("ext_authz")
    await shop.until_it_pays()
    fresh = uuid.uuid4().hex
    await shop.voucher(fresh)
    (elsewhere,) = await shop.order(fresh)
    assert elsewhere.attempted.channel == "cheap"
    again = await shop.voucher(order_no)
    assert again.status == 200
    assert [one.attempted.channel for one in await shop.order(order_no)] == ["dear", "dear"]
    received = await shop.world.received("card", again.request_id)
    assert dict(received["headers"])["x-pay-replay"] == "true"  # type: ignore[call-overload]


async def test_a_notification_is_recorded_once(shop: Shop, order_no: str) -> None:
    await shop.world.wechat_order(order_no)
    notice = shop.world.notice(order_no)
    for _ in range(2):
        headers, body = shop.world.platform.notification(notice)
        answer = await shop.world.send("POST", "/notify/wechat", headers, body)
        assert answer.status in (200, 204), answer
    found = [one.event for one in await shop.log.read(START, 100_000)]
    (notified,) = [one for one in found if isinstance(one, Notified) and one.order_no == order_no]
    assert (notified.result, notified.amount, notified.channel) == (Result.SUCCEEDED, 100, "wechat")


async def test_while_events_cannot_be_written_nothing_leaves(shop: Shop, order_no: str) -> None:
    database = shop.stack.logs.parent / "data" / "events.sqlite"
    holding = sqlite3.connect(database, isolation_level=None)
    holding.execute("begin immediate")
    try:
        answer = await shop.world.pay(payment(order_no, "card"))
    finally:
        holding.execute("rollback")
        holding.close()
    assert (answer.status, answer.reason) == (503, "unavailable")
    assert not await shop.world.received("card", answer.request_id)
    # It was waiting to be written, and was then: it never left, which is what stands there at last.
    assert await shop.ended(order_no) == (Result.UNSENT, ToldBy.CHECK)
    assert (await shop.world.pay(payment(order_no, "card"))).status == 200
