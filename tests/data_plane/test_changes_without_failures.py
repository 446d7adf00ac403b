"""Hundreds of changes and two deaths of the control plane under constant traffic: not one request fails."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc
import pytest
from aiohttp import web

from control_plane.admin import admin_pb2, admin_pb2_grpc
from paymesh.cli.stack.local_stack import LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio]
WEIGHT_CHANGES, HOST_CHANGES, POLICY_CHANGES = 200, 60, 40
CLIENTS = 6

POLICY = """
services:
  - name: steady
    connect_timeout: {timeout}ms
    versions:
      - {{name: v1, endpoints: [{{address: 127.0.0.1, port: {first}}}], weight: 50}}
      - {{name: v2, endpoints: [{{address: 127.0.0.1, port: {second}}}], weight: 50}}
  - {{name: found, versions: [{{name: v1, endpoints_file: found.hosts}}]}}
routes:
  - {{name: steady, match: {{prefix: /steady}}, operation: other, service: steady, max_body_bytes: {size}}}
  - {{name: found, match: {{prefix: /found}}, operation: other, service: found}}
"""
GUEST = """
services: [{{name: guest-{name}, versions: [{{name: v1, endpoints: [{{address: 127.0.0.1, port: {port}}}]}}]}}]
routes: [{{name: guest-{name}, match: {{prefix: /guest/{name}}}, operation: other, service: guest-{name}}}]
"""


@dataclass
class Backends:
    """Two servers in this process that answer everything."""

    ports: list[int] = field(default_factory=list)
    answered: Counter[int] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Backends]:
        async with contextlib.AsyncExitStack() as stack:
            for number in range(2):
                app = web.Application()
                app.router.add_route("*", "/{any:.*}", self._answer(number))
                runner = web.AppRunner(app, access_log=None)
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self.ports.append(runner.addresses[0][1])
            yield self

    def _answer(self, number: int):  # type: ignore[no-untyped-def]
        async def answer(_: web.Request) -> web.Response:
            self.answered[number] += 1
            return web.Response(text=str(number))

        return answer


@dataclass
class Traffic:
    """Clients that never pause. `failures`: whatever was no 200."""

    gateway: str
    paths: set[str]
    answered: int = 0
    failures: list[str] = field(default_factory=list)

    async def client(self, number: int) -> None:
        # Half of them connect anew each time: a listener that is replaced must take those, too.
        connector = aiohttp.TCPConnector(force_close=number % 2 == 0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
            for turn in itertools.count():
                path = sorted(self.paths)[turn % len(self.paths)]
                try:
                    async with session.get(f"http://{self.gateway}{path}") as answer:
                        body = await answer.read()
                        if answer.status != 200:
                            self.failures.append(f"{path}: {answer.status} {body[:200]!r} {dict(answer.headers)}")
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.failures.append(f"{path}: {type(error).__name__} {error}")
                self.answered += 1
                await asyncio.sleep(0.004)


@dataclass
class Site:
    stack: LocalStack
    folder: Path
    backends: Backends
    guests: itertools.count[int] = field(default_factory=itertools.count)

    def write(self, name: str, text: str) -> None:
        """As editors and Kubernetes do: whole, or not at all."""
        beside = self.folder / f".{name}"
        beside.write_text(text)
        beside.replace(self.folder / "policy" / name)

    def policy(self, *, timeout: int = 1000, size: int = 65_536) -> str:
        first, second = self.backends.ports
        return POLICY.format(timeout=timeout, size=size, first=first, second=second)

    def hosts(self, turn: int) -> str:
        one, two = ({"address": "127.0.0.1", "port": port} for port in self.backends.ports)
        return json.dumps(([one], [two], [one, two])[turn % 3])

    async def set_weights(self, share: int) -> None:
        async with grpc.aio.insecure_channel(self.stack.ports.address("admin")) as channel:
            request = admin_pb2.SetWeightRequest(
                service="steady", weights={"v1": 10_000 - share, "v2": share}, reason="a test", actor="ann"
            )
            await admin_pb2_grpc.AdminStub(channel).SetWeight(request, timeout=10)

    async def status(self) -> admin_pb2.StatusResponse:
        async with grpc.aio.insecure_channel(self.stack.ports.address("admin")) as channel:
            return await admin_pb2_grpc.AdminStub(channel).Status(admin_pb2.StatusRequest(), timeout=10)

    async def answers(self, path: str) -> None:
        """Until what was not there before is there: in Envoy and in ext_authz, which reads the same files by itself."""
        url = f"http://{self.stack.ports.address('gateway')}{path}"
        async with aiohttp.ClientSession() as session, asyncio.timeout(20):
            while True:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
                await asyncio.sleep(0.05)

    async def in_force(self, before: str) -> None:
        """Until a policy other than this one is acknowledged."""
        async with asyncio.timeout(20):
            while True:
                status = await self.status()
                assert not status.policy_problems
                assert not status.rolled_back
                types = [item for node in status.nodes for item in node.types]
                if status.policy_version != before and all(one.acked_version == one.sent_version for one in types):
                    return
                await asyncio.sleep(0.05)


async def change(site: Site, traffic: Traffic) -> None:
    for turn in range(WEIGHT_CHANGES // 2):
        await site.set_weights(turn * 50)
    for turn in range(HOST_CHANGES):
        site.write("found.hosts", site.hosts(turn))
        await asyncio.sleep(0.26)
        if turn == HOST_CHANGES // 2:
            site.stack.kill("control_plane")
            await asyncio.sleep(0.5)
            await site.stack.wait_ready("control_plane")
    for turn in range(POLICY_CHANGES):
        before = (await site.status()).policy_version
        match turn % 4:
            case 0:  # a cluster that changes, and with it its endpoints
                site.write("base.yaml", site.policy(timeout=1001 + turn))
            case 1:  # the listener
                site.write("base.yaml", site.policy(size=65_537 + turn))
            case 2:  # a new service with a route
                name = str(next(site.guests))
                site.write("guest.yaml", GUEST.format(name=name, port=site.backends.ports[0]))
            case _:  # both gone again, while their requests go on until the moment before
                traffic.paths -= {path for path in traffic.paths if path.startswith("/guest/")}
                await asyncio.sleep(0.5)
                (site.folder / "policy" / "guest.yaml").unlink()
        await site.in_force(before)
        if turn % 4 == 2:
            await site.answers(f"/guest/{name}")
            traffic.paths.add(f"/guest/{name}")
        if turn == POLICY_CHANGES // 2:
            site.stack.kill("control_plane")
            await asyncio.sleep(0.5)
            await site.stack.wait_ready("control_plane")
    for turn in range(WEIGHT_CHANGES // 2):
        await site.set_weights(10_000 - turn * 50)


async def test_three_hundred_changes_and_two_deaths_cost_no_request(tmp_path: Path) -> None:
    backends = Backends()
    async with backends.running():
        (tmp_path / "policy").mkdir()
        options = StackOptions(policy=(tmp_path / "policy",), run_dir=tmp_path / "run", ports=Ports.random())
        local = LocalStack(options, say=lambda _: None)
        site = Site(local, tmp_path, backends)
        site.write("base.yaml", site.policy())
        site.write("found.hosts", site.hosts(2))
        async with local:
            await local.ready()
            traffic = Traffic(local.ports.address("gateway"), {"/steady/page", "/found/page"})
            await site.answers("/found/page")
            clients = [asyncio.create_task(traffic.client(number)) for number in range(CLIENTS)]
            try:
                await change(site, traffic)
            finally:
                for client in clients:
                    client.cancel()
                await asyncio.gather(*clients, return_exceptions=True)
            status = await site.status()
    assert traffic.failures == []
    assert traffic.answered > 3000
    assert min(backends.answered.values()) > 500
    (split,) = [one for one in status.services if one.service == "steady"]
    assert {one.version: one.actual_weight for one in split.versions} == {"v1": 4950, "v2": 5050}
