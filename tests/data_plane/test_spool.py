"""While the event log is away: one route refuses, the other lets its payments wait in a file of this machine."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.world import Answer, World
from paymesh.cli.stack.local_stack import DEMO_POLICY, LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from paymesh.payments.denial import Unavailable
from paymesh.payments.events.log import EventLog, Known
from paymesh.payments.events.open_log import open_log
from paymesh.payments.events.types import Result
from tests.contract.valkey_process import ValkeyProcess, running_valkey

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
POLICY = """
routes:
  - name: patient
    match: {path: /v1/payments, methods: [POST], headers: [{name: x-patient, exact: "yes"}]}
    operation: pay
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount/total, currency: /amount/currency, product: /product}
    channels: [card]
    events_on_error: spool
"""
DURABLE = ("appendonly yes", "appendfsync always", "maxmemory-policy noeviction")


@dataclass
class Shop:
    world: World
    log: EventLog
    server: ValkeyProcess

    async def pay(self, order_no: str, *, patient: bool) -> Answer:
        return await self.world.pay(payment(order_no, "card"), extra={"x-patient": "yes"} if patient else None)

    async def recorded(self, order_no: str) -> Known:
        async with asyncio.timeout(60):
            while True:
                try:
                    found = await self.log.of_order("teahouse", order_no)
                except Unavailable:
                    found = []
                if found and found[0].result is not None:
                    return found[0]
                await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("spool")
    policy = folder / "patient.yaml"
    policy.write_text(POLICY)
    with running_valkey(folder, *DURABLE) as server:
        url = server.url.replace("redis://", "valkey://")
        flags = {
            name: ("--events", url, "--events-spool", str(folder / f"{name}.sqlite"))
            for name in ("ext_authz", "ext_proc")
        }
        options = StackOptions(policy=(DEMO_POLICY, policy), run_dir=folder / "run", ports=Ports.random(), more=flags)
        async with LocalStack(options, say=lambda _: None) as stack:
            await stack.ready()
            log = open_log(url, 5.0)
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
                yield Shop(World(session, stack.ports.address("gateway"), stack.keys, {}), log, server)
            await log.close()


async def test_what_was_spooled_is_in_the_log_when_it_is_back(shop: Shop) -> None:
    before = uuid.uuid4().hex
    assert (await shop.pay(before, patient=True)).status == 200
    shop.server.kill()
    refused, spooled = uuid.uuid4().hex, [uuid.uuid4().hex for _ in range(5)]
    answer = await shop.pay(refused, patient=False)
    assert (answer.status, answer.reason) == (503, "unavailable")
    assert [(await shop.pay(order_no, patient=True)).status for order_no in spooled] == [200] * 5
    shop.server.start()
    for order_no in (before, *spooled):
        assert (await shop.recorded(order_no)).result is Result.SUCCEEDED
    assert await shop.log.of_order("teahouse", refused) == []
    assert (await shop.pay(refused, patient=False)).status == 200
