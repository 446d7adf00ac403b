"""What happens when a part dies: closed, honest, and back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import pytest_asyncio

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.world import Answer, World
from paymesh.cli.set_weight import set_weights_and_wait
from paymesh.cli.stack.local_stack import LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def frail(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """A stack of its own: its parts are killed."""
    options = StackOptions(run_dir=tmp_path_factory.mktemp("frail"), ports=Ports.random())
    async with LocalStack(options, say=lambda _: None) as running:
        await running.ready()
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(frail: LocalStack) -> AsyncIterator[World]:
    samples = {name: frail.ports.address(name) for name in ("card", "offline")}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield World(session, frail.ports.address("gateway"), frail.keys, samples)


async def until_it_pays(shop: World, label: str) -> None:
    """Wait until card payments succeed again. A payment that fails meanwhile must be a 503."""
    deadline = time.monotonic() + 30
    for number in range(10_000):
        answer = await shop.pay(payment(f"{shop.run}-{label}-{number}", "card"))
        if answer.status == 200:
            return
        assert answer.status == 503, answer
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.05)


async def test_ext_authz_killed_is_503_in_the_callers_protocol_and_it_comes_back(
    frail: LocalStack, shop: World
) -> None:
    await until_it_pays(shop, "before")
    frail.kill("ext_authz")
    wechat = await shop.wechat_order(f"{shop.run}-dead")
    generic = await shop.pay(payment(f"{shop.run}-dead", "card"))
    assert (wechat.status, wechat.document["code"], wechat.reason) == (503, "SYSTEM_ERROR", "unavailable")
    assert (generic.status, generic.document["code"], generic.reason) == (503, "unavailable", "unavailable")
    assert "not processed" in str(generic.document["message"])
    assert not await shop.received("card", generic.request_id), "an undecided payment must not reach a service"
    await frail.wait_ready("ext_authz")
    await until_it_pays(shop, "after")


async def test_ext_proc_killed_stops_what_must_be_sanitised_and_nothing_else(frail: LocalStack, shop: World) -> None:
    frail.kill("ext_proc")
    sanitised = await shop.pay(payment(f"{shop.run}-unclean", "card", payer={"phone": "13812341234"}))
    observed = await shop.wechat_order(f"{shop.run}-unseen")
    assert (sanitised.status, sanitised.document["code"]) == (503, "unavailable")
    assert not await shop.received("card", sanitised.request_id)
    assert observed.status == 200, "watching must never turn an answer into a refusal"
    await frail.wait_ready("ext_proc")
    await until_it_pays(shop, "clean")


async def test_control_plane_killed_and_traffic_goes_on_then_its_weights_are_still_there(
    frail: LocalStack, shop: World
) -> None:
    admin = frail.ports.address("admin")
    await set_weights_and_wait(admin, "trade", {"v1": 7500, "v2": 2500}, reason="test", actor="test")
    frail.kill("control_plane")
    for number in range(20):
        answer = await shop.pay(payment(f"{shop.run}-headless-{number}", "card"))
        assert answer.status == 200, answer
    await frail.wait_ready("control_plane")
    # The same weights again are confirmed only when Envoy is connected again.
    await set_weights_and_wait(admin, "trade", {"v1": 7500, "v2": 2500}, reason="test", actor="test", timeout_s=30)
    await until_it_pays(shop, "headed")


async def test_a_dead_channel_is_not_processed_and_a_broken_answer_is_unknown(frail: LocalStack, shop: World) -> None:
    frail.kill("offline")
    # Let Envoy see the closed connections: a payment sent into a dying one is rightly "unknown".
    await asyncio.sleep(0.1)
    refused = await shop.pay(payment(f"{shop.run}-closed", "offline"))
    assert (refused.status, refused.document["code"]) == (503, "unavailable")
    await frail.wait_ready("offline")
    task = asyncio.create_task(slow_payment(shop))
    await asyncio.sleep(0.5)
    frail.kill("card")
    answer = await task
    assert answer.status == 503
    assert answer.document["code"] == "outcome_unknown"
    assert "query the order" in str(answer.document["message"])
    await frail.wait_ready("card")


async def slow_payment(shop: World) -> Answer:
    """A payment whose channel takes two seconds to answer."""
    return await shop.pay(payment(f"{shop.run}-slow", "card", card={"pan": "6222020000000044"}))


async def test_envoy_killed_comes_back_by_itself(frail: LocalStack, shop: World) -> None:
    frail.kill("envoy")
    await asyncio.sleep(0.2)
    await frail.wait_ready("envoy")
    deadline = time.monotonic() + 20
    while True:
        try:
            await until_it_pays(shop, "reborn")
        except aiohttp.ClientError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        else:
            return


@contextlib.contextmanager
def frozen(stack: LocalStack, name: str) -> Iterator[None]:
    """The process exists and does nothing, as under a debugger or in a long pause."""
    pid = stack.pid(name)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_frozen_ext_authz_is_503_and_not_a_hanging_client(frail: LocalStack, shop: World) -> None:
    with frozen(frail, "ext_authz"):
        answer = await asyncio.wait_for(shop.pay(payment(f"{shop.run}-frozen", "card")), 5)
        assert (answer.status, answer.document["code"]) == (503, "unavailable")
    await until_it_pays(shop, "thawed")


async def test_a_frozen_ext_proc_never_turns_an_answer_into_a_refusal(frail: LocalStack, shop: World) -> None:
    with frozen(frail, "ext_proc"):
        observed = await asyncio.wait_for(shop.wechat_order(f"{shop.run}-unwatched"), 5)
        sanitised = await asyncio.wait_for(shop.pay(payment(f"{shop.run}-unwashed", "card")), 5)
    assert observed.status == 200
    assert (sanitised.status, sanitised.document["code"]) == (503, "unavailable")
    assert not (await shop.received("card", sanitised.request_id)).get("body")
    await until_it_pays(shop, "thawed-too")
