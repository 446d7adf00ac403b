"""Copies of requests through the real Envoy: the other service sees them, and the caller nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from aiohttp import web

from tests.data_plane.forwarding_site import Service, dropped, hosts, running_site

pytestmark = pytest.mark.data_plane


async def test_a_copy_goes_to_the_other_service_and_its_answer_to_nobody(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as running:
        live, trial = [await running.enter_async_context(Service().running()) for _ in range(2)]
        live.behave = lambda _: web.Response(text="live")
        trial.behave = lambda _: web.Response(text="trial", status=500)
        mirror = "safe_to_repeat: true, request_mirror_policies: [{service: trial}]"
        policy = f"""
services: [{{name: live, {hosts(live.port)}}}, {{name: trial, {hosts(trial.port)}}}]
routes:
  - {{name: mirrored, match: {{path: /mirrored}}, operation: query, schemes: [hmac], service: live, {mirror}}}
  - {{name: plain, match: {{path: /plain}}, operation: other, service: live}}
"""
        site = await running.enter_async_context(running_site(tmp_path, policy))
        answers = [await site.get("/mirrored?a=1", merchant="shop") for _ in range(5)]
        trial.behave = dropped
        answers += [await site.get("/mirrored?a=1", merchant="shop") for _ in range(5)]
        answers.append(await site.get("/plain"))
        assert {(answer.status, answer.body) for answer in answers} == {(200, "live")}
        assert (await site.get("/mirrored")).status == 401
        async with asyncio.timeout(10):
            while trial.seen["/mirrored"] < 10:
                await asyncio.sleep(0.05)
        assert live.seen == {"/mirrored": 10, "/plain": 1}
        assert trial.seen == {"/mirrored": 10}
        assert {headers["x-pay-merchant"] for headers in trial.headers} == {"shop"}
