"""The services get their policy from the control plane, before Envoy gets its routes, and keep it without one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import pytest
import pytest_asyncio
from aiohttp import web
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from control_plane.admin import admin_pb2, admin_pb2_grpc
from paymesh.cli.stack.local_stack import LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from paymesh.server.policy_resource import TYPE_URL, decode_documents

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
TOKEN = "a token of some length"
BASE = """
services: [{{name: pages, versions: [{{name: v1, endpoints: [{{address: 127.0.0.1, port: {port}}}]}}]}}]
routes: [{{name: base, match: {{prefix: /base/}}, operation: other, service: pages}}]
"""
MORE = "routes: [{{name: more-{n}, match: {{prefix: /more/{n}/}}, operation: other, service: pages}}]\n"
ELSEWHERE = """
merchants: [{id: shop, credentials: [{scheme: hmac, key_id: k, secret: {file: shop.key}}]}]
routes: [{name: paid, match: {prefix: /paid/}, operation: other, schemes: [hmac], service: pages}]
"""


@dataclass
class Site:
    stack: LocalStack
    policy: Path
    session: aiohttp.ClientSession

    async def get(self, path: str) -> int:
        async with self.session.get(f"http://{self.stack.ports.address('gateway')}{path}") as answer:
            await answer.read()
            return answer.status

    async def status(self) -> admin_pb2.StatusResponse:
        async with grpc.aio.insecure_channel(self.stack.ports.address("admin")) as channel:
            return await admin_pb2_grpc.AdminStub(channel).Status(admin_pb2.StatusRequest(), timeout=10)

    async def followed(self) -> str:
        """Until both services have the newest; its version."""
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(grpc.RpcError):
                    found = (await self.status()).subscribers
                    versions = {one.acked_version for one in found}
                    if len(found) == 2 and len(versions) == 1:
                        return versions.pop()
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("distribution")
    app = web.Application()
    app.router.add_get("/{any:.*}", _answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (folder / "policy").mkdir()
    (folder / "token").write_text(TOKEN)
    (folder / "policy" / "base.yaml").write_text(BASE.format(port=runner.addresses[0][1]))
    ports = Ports.random()

    def flags(name: str) -> tuple[str, ...]:
        cache = str(folder / f"cache-{name}")
        token = str(folder / "token")
        return ("--policy-from", ports.address("xds"), "--policy-cache", cache, "--policy-token", token)

    options = StackOptions(
        policy=(folder / "policy",),
        run_dir=folder / "run",
        ports=ports,
        more={
            "ext_authz": flags("ext_authz"),
            "ext_proc": flags("ext_proc"),
            "control_plane": ("--policy-token", str(folder / "token")),
        },
    )
    async with LocalStack(options, say=lambda _: None) as stack:
        await stack.ready()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            yield Site(stack, folder / "policy", session)
    await runner.cleanup()


async def _answer(_: web.Request) -> web.Response:
    return web.Response(text="page")


async def test_a_new_route_is_known_to_the_services_before_envoy_routes_it(site: Site) -> None:
    assert await site.get("/base/page") == 200
    for number in range(5):
        (site.policy / "more.yaml").write_text(MORE.format(n=number))
        seen: Counter[int] = Counter()
        async with asyncio.timeout(20):
            while not seen[200]:
                seen[await site.get(f"/more/{number}/page")] += 1
        assert set(seen) <= {404, 200}, "unknown to Envoy, and then known to all; never in between"
        assert await site.get("/base/page") == 200


async def test_what_a_service_cannot_use_reaches_no_envoy(site: Site) -> None:
    (site.policy / "more.yaml").unlink(missing_ok=True)
    async with asyncio.timeout(20):
        while await site.get("/more/4/page") != 404:
            await asyncio.sleep(0.05)
    before = await site.followed()
    policy = (await site.status()).policy_version
    # The control plane has the key beside the policy. Services have what is sent: references, never secrets.
    (site.policy / "shop.key").write_text("0123456789abcdef0123456789abcdef")
    (site.policy / "elsewhere.yaml").write_text(ELSEWHERE)
    async with asyncio.timeout(20):
        while not (problems := list((await site.status()).policy_problems)):
            await asyncio.sleep(0.05)
    assert "(service ext_" in problems[0]
    assert "elsewhere.yaml:2: merchants[0].credentials[0].secret" in problems[0]
    assert (await site.status()).policy_version == policy
    assert await site.get("/paid/1") == 404
    (site.policy / "elsewhere.yaml").unlink()
    async with asyncio.timeout(20):
        while (await site.status()).policy_problems:
            await asyncio.sleep(0.05)
    assert await site.followed() == before
    assert await site.get("/base/page") == 200


async def test_without_the_control_plane_a_service_starts_with_what_it_had(site: Site) -> None:
    await site.followed()
    stopped = site.stack.pid("control_plane")
    assert stopped is not None
    with frozen(stopped):
        site.stack.kill("ext_authz")
        await asyncio.sleep(0.3)
        await site.stack.wait_ready("ext_authz")
        assert await site.get("/base/page") == 200
    (site.policy / "more.yaml").write_text(MORE.format(n=9))
    async with asyncio.timeout(30):
        while await site.get("/more/9/page") != 200:
            await asyncio.sleep(0.1)


async def test_the_policy_is_for_those_who_show_the_token(site: Site) -> None:
    async def asked(metadata: tuple[tuple[str, str], ...]) -> discovery_pb2.DiscoveryResponse:
        async with grpc.aio.insecure_channel(site.stack.ports.address("xds")) as channel:
            stream = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources(metadata=metadata)
            await stream.write(discovery_pb2.DiscoveryRequest(type_url=TYPE_URL))
            return await stream.read()

    for metadata in ((), (("authorization", "Bearer of something else"),), (("authorization", TOKEN),)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asked(metadata)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    answer = await asked((("authorization", f"Bearer {TOKEN}"),))
    names = [name for name, _ in decode_documents(answer.resources[0].value)]
    assert "base.yaml" in names


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process that neither answers nor is gone."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
