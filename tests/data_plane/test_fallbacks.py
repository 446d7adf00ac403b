"""What is given while a service has no healthy host, through the real Envoy; and that nothing else is replaced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from aiohttp import web

from tests.data_plane.forwarding_site import RefusingService, Service, Site, hosts, running_site

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
ANSWER = '{"rate": null, "certain": "0%"}'
OUTLIERS = (
    "outlier_detection: {consecutive_5xx: 2, interval: 200ms, base_ejection_time: 60s, max_ejection_percent: 100}"
)


@dataclass
class Shop:
    site: Site
    rates: Service
    failing: Service
    spare: Service

    async def until(self, path: str, status: int, **more: str) -> None:
        async with asyncio.timeout(20):
            while (await self.site.get(path, **more)).status != status:  # type: ignore[arg-type]
                await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with contextlib.AsyncExitStack() as running:
        rates, failing, spare = [await running.enter_async_context(Service().running()) for _ in range(3)]
        modern = await running.enter_async_context(RefusingService().running())
        policy = f"""
services:
  - name: rates
    health_check: {{http: {{path: /healthz}}, interval: 200ms, timeout: 200ms, unhealthy_threshold: 1}}
    {hosts(rates.port)}
  - {{name: failing, {OUTLIERS}, {hosts(failing.port)}}}
  - {{name: spare, {hosts(spare.port)}}}
  - {{name: modern, http_protocol: http2, {hosts(modern.port)}}}
routes:
  - name: rates
    match: {{prefix: /rates/}}
    operation: query
    schemes: [hmac]
    service: rates
    observe_response: false
    fallback: {{answer: {{status: 203, content_type: application/vnd.rates, body: '{ANSWER}'}}}}
  - {{name: exact, match: {{path: /rates/exact}}, operation: other, service: rates}}
  - {{name: spared, match: {{path: /spared}}, operation: other, service: rates, fallback: {{service: spare}}}}
  - {{name: modern, match: {{path: /modern}}, operation: other, service: rates, fallback: {{service: modern}}}}
  - {{name: failing, match: {{path: /failing}}, operation: other, service: failing, fallback: {{service: spare}}}}
"""
        site = await running.enter_async_context(running_site(tmp_path_factory.mktemp("fallbacks"), policy))
        yield Shop(site, rates, failing, spare)


async def test_while_the_service_answers_nothing_stands_in_for_it(shop: Shop) -> None:
    shop.rates.behave = lambda _: web.Response(text="rates", status=503)
    assert (await shop.site.get("/rates/cny", merchant="shop")).body == "rates"
    assert (await shop.site.get("/spared")).status == 503
    shop.rates.behave = lambda _: web.Response(text="rates")
    assert (await shop.site.get("/spared")).body == "rates"
    assert shop.spare.seen["/spared"] == 0


async def test_without_a_healthy_host_the_declared_answer_or_the_other_service(shop: Shop) -> None:
    await shop.rates.stop()
    try:
        await shop.until("/rates/cny", 203, merchant="shop")
        told = await shop.site.get("/rates/cny", merchant="shop")
        assert (told.status, told.headers["content-type"], told.body) == (203, "application/vnd.rates", ANSWER)
        assert told.headers["x-pay-fallback"] == "answer"
        # Who is not let in, and a route of a more specific path, hear what they always hear.
        assert (await shop.site.get("/rates/cny")).status == 401
        exact = await shop.site.get("/rates/exact")
        assert (exact.status, exact.reason) == (503, "unavailable")
        shop.spare.behave = lambda _: web.Response(text="spare")
        assert [(await shop.site.get("/spared")).body for _ in range(10)] == ["spare"] * 10
        assert (await shop.site.get("/modern")).status == 200
    finally:
        await shop.rates.start()
    await shop.until("/rates/cny", 200, merchant="shop")
    assert (await shop.site.get("/spared")).body == "rates"


async def test_a_service_that_was_ejected_for_its_answers_is_stood_in_for(shop: Shop) -> None:
    shop.failing.behave = lambda _: web.Response(status=500)
    shop.spare.behave = lambda _: web.Response(text="spare")
    statuses = [(await shop.site.get("/failing")).status for _ in range(12)]
    assert set(statuses[:2]) == {500}
    assert statuses[-6:] == [200] * 6
