"""What Envoy sends again: only what no service can have processed, where money moves. Counted at the services."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from aiohttp import web

from paymesh.payments.events.types import Result
from tests.data_plane.forwarding_site import PAY, RefusingService, Service, Site, dropped, hosts, nobody, running_site

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
NEVER = "retry_policy: {attempts: 2, retry_on: [connect_failure, reset_before_request, refused_stream]}"


@dataclass
class Shop:
    site: Site
    live: Service
    refusing: RefusingService


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with contextlib.AsyncExitStack() as running:
        live = await running.enter_async_context(Service().running())
        refusing = await running.enter_async_context(RefusingService().running())
        held, closed = nobody()
        running.callback(held.close)
        policy = f"""
channels:
  - {{name: pair, service: pair}}
  - {{name: gone, service: gone}}
  - {{name: refusing, service: refusing}}
services:
  - {{name: pair, {hosts(closed, live.port)}}}
  - {{name: gone, {hosts(closed)}}}
  - {{name: live, {hosts(live.port)}}}
  - {{name: refusing, http_protocol: http2, {hosts(refusing.port)}}}
routes:
  - {{name: pair, match: {{path: /pair, methods: [POST]}}, {PAY}, channels: [pair], {NEVER}, timeout: 1s}}
  - {{name: plain, match: {{path: /plain, methods: [POST]}}, {PAY}, channels: [pair]}}
  - {{name: gone, match: {{path: /gone, methods: [POST]}}, {PAY}, channels: [gone], {NEVER}}}
  - {{name: refusing, match: {{path: /refusing, methods: [POST]}}, {PAY}, channels: [refusing], {NEVER}}}
  - {{name: idle, match: {{path: /idle, methods: [POST]}}, {PAY}, channels: [pair], {NEVER}, idle_timeout: 500ms}}
  - name: query
    match: {{prefix: /orders/, methods: [GET]}}
    operation: query
    schemes: [hmac]
    service: live
    timeout: 5s
    retry_policy: {{attempts: 2, retry_on: [5xx], per_try_timeout: 500ms}}
"""
        site = await running.enter_async_context(running_site(tmp_path_factory.mktemp("retries"), policy))
        yield Shop(site, live, refusing)


@pytest.fixture(autouse=True)
def _fresh(shop: Shop) -> None:
    shop.live.behave, shop.live.hold = Service().behave, None
    shop.live.seen.clear()
    shop.live.ids.clear()


async def test_a_payment_goes_to_another_host_where_none_can_be_connected_to(shop: Shop) -> None:
    orders = [uuid.uuid4().hex for _ in range(12)]
    answers = [await shop.site.pay("/pair", order) for order in orders]
    assert [answer.status for answer in answers] == [200] * 12
    assert shop.live.ids == {answer.headers["x-pay-request-id"]: 1 for answer in answers}
    # What the access log tells of a second try: the service was reached.
    assert {await shop.site.result(order) for order in orders} == {Result.SUCCEEDED}


async def test_without_a_retry_policy_nothing_is_sent_twice(shop: Shop) -> None:
    answers = [await shop.site.pay("/plain") for _ in range(8)]
    assert {answer.status for answer in answers} == {200, 503}
    assert shop.live.seen["/plain"] == sum(answer.status == 200 for answer in answers)


async def test_a_payment_that_no_host_took_is_not_processed(shop: Shop) -> None:
    order = uuid.uuid4().hex
    answer = await shop.site.pay("/gone", order)
    assert (answer.status, answer.reason) == (503, "unavailable")
    assert "not processed" in str(answer.document["message"])
    assert await shop.site.result(order) is Result.UNSENT


async def test_a_payment_that_was_read_is_never_sent_again(shop: Shop) -> None:
    shop.live.behave = dropped
    orders = [uuid.uuid4().hex for _ in range(6)]
    answers = [await shop.site.pay("/pair", order) for order in orders]
    assert {answer.reason for answer in answers} == {"outcome_unknown"}
    assert sorted(shop.live.ids.values()) == [1] * 6
    assert {await shop.site.result(order) for order in orders} == {Result.UNKNOWN}


async def test_an_answer_of_500_and_silence_are_no_reason_to_pay_again(shop: Shop) -> None:
    shop.live.behave = lambda _: web.json_response({"code": "busy"}, status=500)
    assert (await shop.site.pay("/pair")).status == 500
    shop.live.hold = asyncio.Event()
    answer = await shop.site.pay("/pair")
    shop.live.hold.set()
    assert (answer.status, answer.reason) == (504, "outcome_unknown")
    assert shop.live.seen["/pair"] == 2


async def test_a_service_that_says_it_did_nothing_is_asked_again(shop: Shop) -> None:
    shop.refusing.refuses, before = 2, shop.refusing.processed
    order = uuid.uuid4().hex
    assert (await shop.site.pay("/refusing", order)).status == 200
    assert (shop.refusing.refuses, shop.refusing.processed - before) == (0, 1)
    assert await shop.site.result(order) is Result.SUCCEEDED


async def test_a_query_is_asked_again_and_each_try_has_its_own_time(shop: Shop) -> None:
    left = iter([500, 502, 200])
    shop.live.behave = lambda _: web.json_response({"status": "SUCCEEDED"}, status=next(left))
    assert (await shop.site.get("/orders/1", merchant="shop")).status == 200
    assert shop.live.seen["/orders/1"] == 3
    shop.live.hold = asyncio.Event()
    answer = await shop.site.get("/orders/2", merchant="shop")
    shop.live.hold.set()
    assert answer.status == 504
    assert shop.live.seen["/orders/2"] == 3


async def test_silence_ends_an_exchange_before_its_timeout_and_the_outcome_is_unknown(shop: Shop) -> None:
    shop.live.hold = asyncio.Event()
    answer = await shop.site.pay("/idle")
    shop.live.hold.set()
    assert (answer.status, answer.reason) == (504, "outcome_unknown")
    assert shop.live.seen["/idle"] == 1
