"""Traffic leaves a channel that fails and comes back when it works again: real payments, real Envoy, real outcomes."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.world import Answer, World
from paymesh.cli.stack.local_stack import DEMO_POLICY, LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from paymesh.payments.events.sqlite_log import SqliteLog

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
# The cheaper one takes everything while it works. The window is short so that the test is.
POLICY = """
channels:
  - {name: cheap, service: banks, products: [voucher], priority: 20, fees: [{id: cheap-1, rate: 0.3%}]}
  - {name: dear, service: banks, products: [voucher], priority: 10, fees: [{id: dear-1, rate: 0.6%, minimum: 1}]}
  - name: night
    service: banks
    products: [voucher]
    priority: 5
    hours: {utc_offset: "+00:00", open: [{days: [mon], opens: "00:00", closes: "00:01"}]}
    fees: [{id: night-1, rate: 0%}]
services:
  - {name: banks, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: PORT}]}]}
routes:
  - name: vouchers
    match: {path: /v1/payments, methods: [POST], headers: [{name: x-vouchers, exact: "yes"}]}
    operation: pay
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount/total, currency: /amount/currency, product: /product}
    channels: [cheap, dear, night]
    channel_selection:
      - {strategy: eliminate, failure_rate: 20, window: 5s, min_samples: 10, pause: 2s, probe_share: 20}
      - {strategy: success_rate, window: 5s, min_samples: 10, band: 5, explore: 5}
      - {strategy: lowest_cost}
"""


@dataclass
class Banks:
    """Both banks: every third payment through `cheap` fails while it is told to; who has no money fails nothing."""

    failing: bool = False
    taken: Counter[str] = field(default_factory=Counter)
    asked: int = 0

    async def pay(self, request: web.Request) -> web.Response:
        channel, order = request.headers["x-pay-channel"], await request.json()
        self.taken[channel] += 1
        self.asked += 1
        if channel == "cheap" and self.failing and self.taken[channel] % 3 == 0:
            return web.json_response({"code": "busy"}, status=500)
        # Insufficient funds, of which each channel has as many.
        status = "REFUSED" if self.asked % 2 else "SUCCEEDED"
        return web.json_response({"order_no": order["order_no"], "status": status})


@dataclass
class Shop:
    world: World
    log: SqliteLog
    banks: Banks

    async def pay(self, **more: Any) -> Answer:
        return await self.world.pay(payment(uuid.uuid4().hex, "voucher", **more), extra={"x-vouchers": "yes"})

    async def share_of_cheap(self, seconds: float) -> float:
        """Of some 40 payments a second, for so long."""
        self.banks.taken.clear()
        async with asyncio.timeout(seconds + 30), asyncio.TaskGroup() as group:
            for _ in range(int(seconds * 40)):
                group.create_task(self.pay())
                await asyncio.sleep(0.025)
        return self.banks.taken["cheap"] / self.banks.taken.total()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("selection")
    banks = Banks()
    app = web.Application()
    app.router.add_post("/v1/payments", banks.pay)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    policy = folder / "vouchers.yaml"
    policy.write_text(POLICY.replace("PORT", str(runner.addresses[0][1])))
    options = StackOptions(policy=(DEMO_POLICY, policy), run_dir=folder / "run", ports=Ports.random())
    async with LocalStack(options, say=lambda _: None) as stack:
        await stack.ready()
        log = SqliteLog(folder / "run" / "data" / "events.sqlite", deadline_s=20)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            yield Shop(World(session, stack.ports.address("gateway"), stack.keys, {}), log, banks)
        await log.close()
    await runner.cleanup()


async def test_the_choice_explains_itself_in_the_event(shop: Shop) -> None:
    order_no = uuid.uuid4().hex
    await shop.world.pay(payment(order_no, "voucher"), extra={"x-vouchers": "yes"})
    (known,) = await shop.log.of_order("teahouse", order_no)
    one = known.attempted
    assert (one.channel, one.fee, one.fee_schedule) == ("cheap", 3, "cheap-1")
    assert "night: is closed at this hour" in one.why
    assert "takes it" in one.why


async def test_traffic_leaves_a_failing_channel_and_comes_back(shop: Shop) -> None:
    assert await shop.share_of_cheap(4) > 0.8
    shop.banks.failing = True
    await shop.share_of_cheap(10)
    away = await shop.share_of_cheap(4)
    shop.banks.failing = False
    async with asyncio.timeout(60):
        while await shop.share_of_cheap(3) < 0.8:
            pass
    # Of what it had, at least 80% is elsewhere; what is left are probes and explorers.
    assert away < 0.2
