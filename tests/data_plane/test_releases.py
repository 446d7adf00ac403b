"""Releases through the real Envoy under constant traffic: who is moved where, what is noticed, and that nobody pays for
it: no failure but those that a version was told to make, no merchant who goes back from a growing canary."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import grpc
import pytest
import pytest_asyncio
from aiohttp import web

from control_plane.releases import releases_pb2 as pb
from tests.data_plane.release_site import HOST, MERCHANTS, ReleaseSite, Seen, running_release_site

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]

DOCUMENT = """
release: {name}
service: trade
stable: v1
target: v2
steps: {steps}
{more}
"""
CHECKS = """
analysis:
  every: 1s
  checks:
    - success: {{max_drop: {max_drop}, confidence: 90, min_sample: {min_sample}}}
    - success: {{name: answered, of: requests, max_drop: {max_drop}, confidence: 90, min_sample: {min_sample}}}
    - latency: {{quantile: '0.9', max: 250ms, min_sample: {min_sample}}}
"""


def document(name: str, steps: str, more: str = "", *, max_drop: int = 1, min_sample: int = 0) -> str:
    checks = CHECKS.format(max_drop=max_drop, min_sample=min_sample) if min_sample else ""
    return DOCUMENT.format(name=name, steps=steps, more=checks + more)


@dataclass
class Deployments:
    """Another system, which is asked and told of releases. `keys`: of what it was told after."""

    agree: bool = False
    verdict: str = "inconclusive"
    refused: int = 0
    befores: list[dict[str, object]] = field(default_factory=list)
    judged: list[dict[str, object]] = field(default_factory=list)
    afters: list[dict[str, object]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    async def before(self, request: web.Request) -> web.Response:
        self.befores.append(await request.json())
        self.refused += not self.agree
        return web.Response(status=200 if self.agree else 409)

    async def judge(self, request: web.Request) -> web.Response:
        self.judged.append(await request.json())
        return web.json_response({"verdict": self.verdict, "why": "nobody is at the desk"})

    async def after(self, request: web.Request) -> web.Response:
        self.afters.append(await request.json())
        self.keys.append(request.headers["idempotency-key"])
        return web.Response()


@contextlib.asynccontextmanager
async def deployments() -> AsyncIterator[tuple[Deployments, str]]:
    """It, running, and its address."""
    found, app = Deployments(), web.Application()
    for path, handler in (("/before", found.before), ("/judge", found.judge), ("/after", found.after)):
        app.router.add_post(path, handler)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield found, f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReleaseSite]:
    async with running_release_site(tmp_path_factory.mktemp("releases")) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: ReleaseSite) -> AsyncIterator[ReleaseSite]:
    """All on v1, which is well."""
    for version in (running.v1, running.v2):
        version.fails_every, version.takes_s = 0, 0.0
        version.hosts.clear()
    for release in (await running.releases.List(pb.ListRequest(), timeout=10)).releases:
        if not release.over:
            if release.phase not in ("rolling_back", "draining", "retiring"):
                await running.tell(release.name, "abort")
            await running.until(release.name, "rolled_back", "promoted")
    await running.all_on("v1")
    yield running


def assert_nobody_was_hurt(seen: Seen, *moves: list[str]) -> None:
    """Every merchant went through one of these sequences of versions."""
    seen.assert_none_failed()
    for merchant in MERCHANTS:
        assert seen.moves(merchant) in moves, merchant


async def test_a_healthy_one_is_promoted_and_nobody_leaves_it_while_it_grows(site: ReleaseSite) -> None:
    steps = "[{weight: 10}, {hold: 2s}, {weight: 50}, {hold: 2s}]"
    async with site.traffic() as seen:
        await site.apply(document("healthy", steps, max_drop=20, min_sample=15))
        release = await site.until("healthy", "promoted")
        await asyncio.sleep(1)
    assert_nobody_was_hurt(seen, ["v1", "v2"])
    assert (release.set_weight, release.actual_weight) == (10_000, 10_000)
    assert {one.check: one.verdict for one in release.findings} == {
        "success": "pass",
        "answered": "pass",
        "latency": "pass",
    }
    target = release.traffic[1]
    assert target.requests > 15
    assert (target.errors, target.payments_failed) == (0, 0)
    assert [one.currency for one in target.amount] == ["CNY"]
    history = (await site.releases.History(pb.HistoryRequest(name="healthy"), timeout=10)).entries
    weights = [entry.set_weight for entry in history]
    assert sorted(set(weights)) == [1_000, 5_000, 10_000]
    assert weights == sorted(weights)
    text = (await site.releases.Receipt(pb.ReceiptRequest(name="healthy"), timeout=10)).markdown
    assert "promoted" in text
    assert "ann" in text
    await site.tell("healthy", "undo")
    began = time.monotonic()
    release = await site.until("healthy", "rolled_back")
    assert release.actual_weight == 0
    assert time.monotonic() - began < 20
    assert (await site.pay(MERCHANTS[0])).version == "v1"


async def test_one_that_fails_five_in_a_hundred_goes_back_in_its_first_step(site: ReleaseSite) -> None:
    site.v2.fails_every = 20
    async with site.traffic(pause_s=0.15) as seen:
        await site.apply(document("failing", "[{weight: 50}, {hold: 1s}, {gate: true}]", min_sample=50))
        release = await site.until("failing", "rolled_back", seconds=90)
        await asyncio.sleep(0.5)
    assert_nobody_was_hurt(seen, ["v1"], ["v1", "v2", "v1"])
    assert release.step == 1
    assert release.why.startswith("success: stable 100.00% of ")
    assert "1.00% allowed" in release.why
    assert release.traffic[1].payments_failed >= 3


async def test_a_slow_one_is_caught_by_its_latency(site: ReleaseSite) -> None:
    site.v2.takes_s = 0.6
    async with site.traffic() as seen:
        await site.apply(document("slow", "[{weight: 50}, {hold: 1s}]", min_sample=10))
        release = await site.until("slow", "rolled_back")
    seen.assert_none_failed()
    assert release.why.startswith("latency: p90: stable ")
    assert release.traffic[1].errors == 0


async def test_one_of_which_too_little_is_known_is_held_and_can_be_frozen(site: ReleaseSite) -> None:
    async with site.traffic() as seen:
        await site.apply(document("unknown", "[{weight: '0.01'}, {hold: 1s}]", min_sample=100_000))
        await site.until("unknown", "holding")
        await asyncio.sleep(4)
        release = await site.get("unknown")
        assert (release.phase, release.verdict) == ("holding", "inconclusive")
        assert {one.check for one in release.findings} == {"success", "answered", "latency"}
        frozen = await site.tell("unknown", "freeze")
        assert (frozen.phase, frozen.set_weight) == ("frozen", 1)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await site.all_on("v2")
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "release unknown of trade is under way" in refused.value.details()
        await site.tell("unknown", "abort")
        await site.until("unknown", "rolled_back")
    seen.assert_none_failed()


async def test_without_a_healthy_host_it_goes_back_though_nothing_is_analysed(site: ReleaseSite) -> None:
    await site.apply(document("dark", "[{weight: 50}, {gate: true}]").replace("service: trade", "service: checked"))
    url = f"http://{site.stack.ports.address('gateway')}/checked"
    async with asyncio.timeout(30):
        while (release := await site.get("dark")).phase not in ("rolled_back", "rolling_back"):
            async with site.session.get(url):
                await asyncio.sleep(0.05)
    assert "found no healthy host of checked@v2" in release.why


async def test_an_isolated_version_is_reached_by_test_merchants_only(site: ReleaseSite) -> None:
    more = f"isolate: true\ntest_merchants: [{MERCHANTS[3]}]\n"
    await site.apply(document("alone", f"[{{merchants: [{MERCHANTS[4]}]}}]", more))
    release = await site.until("alone", "isolated")
    assert (release.pins, release.set_weight) == (2, 0)
    for merchant in MERCHANTS:
        told = await site.pay(merchant, headers={"x-pay-version": "v2", "x-pay-split": "1", "x-pay-merchant": "m003"})
        assert told.version == ("v2" if merchant in MERCHANTS[3:5] else "v1")
    await site.tell("alone", "abort")
    await site.until("alone", "rolled_back")
    assert (await site.pay(MERCHANTS[3])).version == "v1"


async def test_headers_and_cookies_pick_the_target(site: ReleaseSite) -> None:
    steps = "[{header: {name: x-try, exact: v2}}, {cookie: {name: trial, exact: 'on'}}, {gate: true}]"
    await site.apply(document("picked", steps))
    release = await site.until("picked", "gated")
    assert (release.pins, release.set_weight) == (2, 0)
    assert (await site.pay(MERCHANTS[0], headers={"x-try": "v2"})).version == "v2"
    assert (await site.pay(MERCHANTS[0], headers={"x-try": "v3"})).version == "v1"
    assert (await site.pay(MERCHANTS[0], headers={"cookie": "a=b; trial=on"})).version == "v2"
    assert (await site.pay(MERCHANTS[0], headers={"cookie": "trial=off"})).version == "v1"
    await site.tell("picked", "abort")
    await site.until("picked", "rolled_back")
    assert (await site.pay(MERCHANTS[0], headers={"x-try": "v2"})).version == "v1"


async def test_orders_stay_with_the_version_that_they_began_on_while_it_drains(site: ReleaseSite) -> None:
    merchant, order_no = MERCHANTS[0], uuid.uuid4().hex
    await site.apply(document("drained", "[{weight: '0.01'}, {gate: true}]", "drain: 4s\n"))
    await site.until("drained", "gated")
    assert (await site.pay(merchant, order_no)).version == "v1"
    await asyncio.sleep(1.5)  # Envoy's log tells the order's version within a second
    await site.tell("drained", "promote_full")
    await site.until("drained", "draining")
    assert (await site.pay(merchant)).version == "v2"
    assert (await site.send("/query", merchant, order_no)).version == "v1"
    await site.until("drained", "promoted")
    assert (await site.send("/query", merchant, order_no)).version == "v2"


async def test_copies_of_harmless_requests_are_shown_to_the_target(site: ReleaseSite) -> None:
    await site.apply(document("mirrored", "[{gate: true}]", "mirror: 100\n"))
    await site.until("mirrored", "gated")
    paid = site.v2.paid
    async with asyncio.timeout(20):
        while not site.v2.hosts:
            assert (await site.send("/query", MERCHANTS[0], uuid.uuid4().hex)).version == "v1"
            await asyncio.sleep(0.05)
    assert all(host.partition(":")[0].endswith("-shadow") for host in site.v2.hosts)
    assert (await site.pay(MERCHANTS[0])).version == "v1"
    assert site.v2.paid == paid, "a payment is not safe to repeat"


async def test_a_drill_hits_the_canary_only(site: ReleaseSite) -> None:
    await site.apply(document("drilled", f"[{{merchants: [{MERCHANTS[5]}]}}, {{gate: true}}]"))
    await site.until("drilled", "gated")
    drill = pb.DrillRequest(name="drilled", abort_share=10_000, abort_status=503, reason="a drill", actor="ann")
    assert (await site.releases.Drill(drill, timeout=10)).drill == "100.00% answered with 503"
    async with asyncio.timeout(20):
        while (await site.pay(MERCHANTS[5])).status == 200:
            await asyncio.sleep(0.1)
    assert (await site.pay(MERCHANTS[6])).status == 200
    ended = pb.DrillRequest(name="drilled", reason="enough", actor="ann")
    assert (await site.releases.Drill(ended, timeout=10)).drill == ""
    async with asyncio.timeout(20):
        while (await site.pay(MERCHANTS[5])).status != 200:
            await asyncio.sleep(0.1)


async def test_the_control_plane_may_die_in_any_phase(site: ReleaseSite) -> None:
    steps = "[{weight: 10}, {hold: 1s}, {weight: 50}, {hold: 1s}]"
    async with site.traffic(pause_s=0.4) as seen:
        await site.apply(document("killed", steps))
        killed: set[tuple[str, int]] = set()
        async with asyncio.timeout(90):
            while (release := await site.get("killed")).phase != "promoted":
                if (release.phase, release.step) not in killed:
                    killed.add((release.phase, release.step))
                    site.stack.kill("control_plane")
                    await site.stack.wait_ready("control_plane")
        await asyncio.sleep(1)
    assert len(killed) >= 3
    assert_nobody_was_hurt(seen, ["v1", "v2"])
    entries = (await site.releases.History(pb.HistoryRequest(name="killed"), timeout=10)).entries
    steps_taken = [(entry.phase, entry.step) for entry in entries]
    assert len(steps_taken) == len(set(steps_taken)), "no step twice"


async def test_others_are_asked_before_traffic_moves_judge_it_and_are_told_after(site: ReleaseSite) -> None:
    async with deployments() as (others, url):
        hooks = f"hooks: {{before: [{url}/before], after: [{url}/after]}}\n"
        judge = f"analysis: {{every: 1s, checks: [{{webhook: {{name: duty, url: '{url}/judge'}}}}]}}\n"
        await site.apply(document("asked", "[{weight: 10}, {hold: 1s}]", hooks + judge))
        await until(lambda: len(others.befores) >= 2)
        release = await site.get("asked")
        assert (release.phase, release.set_weight, release.actual_weight) == ("applying", 1_000, 0)
        assert release.why == "waits for hooks: 127.0.0.1: answered 409"
        others.agree = True
        await site.until("asked", "holding")
        heard = len(others.judged)
        await until(lambda: len(others.judged) >= heard + 4)
        release = await site.get("asked")
        assert (release.phase, release.verdict) == ("holding", "inconclusive"), "its hold was over long ago"
        assert [(one.check, one.why) for one in release.findings] == [("duty", "nobody is at the desk")]
        others.verdict = "pass"
        await site.until("asked", "promoted")
        await until(lambda: len(others.afters) >= 2)
    afters = [(one["share"], one["change"]) for one in others.afters]
    assert [share for share, _ in afters] == [1_000, 10_000]
    assert len({change for _, change in afters}) == 2, "each change once, in order"
    assert others.keys == [f"asked/{change}/after" for _, change in afters]
    agreed = others.befores[others.refused :]
    assert [(one["share"], one["change"]) for one in agreed] == afters
    assert {(one["service"], one["stable"], one["target"]) for one in others.befores} == {("trade", "v1", "v2")}


async def test_what_cannot_be_applied_is_told_whole(site: ReleaseSite) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await site.apply("release: bad\nservice: trade\nstable: v1\ntarget: v9\nsteps: [{wait: 3}, {weight: 101}]\n")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    lines = str(refused.value.details()).splitlines()
    assert all(line.startswith("release.yaml:5: steps") for line in lines), lines
    assert len(lines) >= 2
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await site.apply(document("bad", "[{weight: 10}]").replace("target: v2", "target: v9"))
    assert refused.value.details() == "release.yaml:5: target: trade has no version v9 (it has: v1, v2)"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await site.apply(document("bad", "[{merchants: [m001]}, {merchants: [m002, m0003]}]"))
    assert refused.value.details() == "release.yaml:6: steps[1].merchants[1]: there is no merchant m0003"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await site.get(f"nobody-{uuid.uuid4().hex}")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_preview_says_who_would_move_and_those_do(site: ReleaseSite) -> None:
    async with site.traffic():
        await asyncio.sleep(2.5)
    request = pb.PreviewRequest(service="trade", weights={"v1": 5_000, "v2": 5_000})
    preview = await site.releases.Preview(request, timeout=10)
    assert preview.merchants_seen == len(MERCHANTS)
    assert preview.payments_seen > len(MERCHANTS)
    movers = {move.merchant for move in preview.moves}
    assert 0 < len(movers) < len(MERCHANTS)
