"""Faults on purpose through the real Envoy: who is hit, and that an aborted payment was not sent."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from paymesh.payments.events.types import Result
from tests.data_plane.forwarding_site import PAY, Service, Site, hosts, running_site

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
ABORT = "fault_injection: {abort: {http_status: 500}, headers: [{name: x-trial}]}"


@dataclass
class Shop:
    site: Site
    service: Service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with contextlib.AsyncExitStack() as running:
        service = await running.enter_async_context(Service().running())
        policy = f"""
gateway: {{allow_fault_injection: true}}
channels: [{{name: card, service: card}}]
services: [{{name: card, {hosts(service.port)}}}]
routes:
  - {{name: pay, match: {{path: /pay, methods: [POST]}}, {PAY}, channels: [card], {ABORT}}}
  - name: slow
    match: {{path: /slow}}
    operation: other
    service: card
    fault_injection: {{delay: {{fixed_delay: 600ms}}, headers: [{{name: x-trial}}]}}
  - name: one-merchant
    match: {{path: /mine}}
    operation: query
    schemes: [hmac]
    service: card
    fault_injection: {{abort: {{http_status: 503}}, headers: [{{name: x-pay-merchant, exact: other}}]}}
  - name: half
    match: {{path: /half}}
    operation: other
    service: card
    fault_injection: {{abort: {{http_status: 503, percentage: 50}}}}
"""
        site = await running.enter_async_context(running_site(tmp_path_factory.mktemp("faults"), policy))
        yield Shop(site, service)


async def test_an_aborted_payment_was_not_sent_and_its_order_can_be_paid(shop: Shop) -> None:
    order = uuid.uuid4().hex
    aborted = await shop.site.pay("/pay", order, {"x-trial": "1"})
    assert (aborted.status, aborted.reason) == (500, "unavailable")
    assert "not processed" in str(aborted.document["message"])
    assert await shop.site.result(order) is Result.UNSENT
    assert shop.service.seen["/pay"] == 0
    assert (await shop.site.pay("/pay", order)).status == 200
    assert shop.service.seen["/pay"] == 1


async def test_only_who_is_let_in_is_hit(shop: Shop) -> None:
    answer = await shop.site.send("POST", "/pay", b"{}", {"x-trial": "1"})
    assert (answer.status, answer.reason) == (401, "credential_missing")


async def test_one_merchant_alone_is_hit_and_nobody_can_say_to_be_it(shop: Shop) -> None:
    assert (await shop.site.get("/mine", merchant="other")).status == 503
    assert (await shop.site.get("/mine", {"x-pay-merchant": "other"}, merchant="shop")).status == 200


async def test_a_delay_holds_up_only_who_asks_for_it(shop: Shop) -> None:
    took = []
    for headers in ({}, {"x-trial": "1"}):
        began = time.monotonic()
        assert (await shop.site.get("/slow", headers)).status == 200
        took.append(time.monotonic() - began)
    assert took[1] >= 0.6


async def test_a_share_is_hit(shop: Shop) -> None:
    statuses = [(await shop.site.get("/half")).status for _ in range(60)]
    assert set(statuses) == {200, 503}
    assert shop.service.seen["/half"] == statuses.count(200)
