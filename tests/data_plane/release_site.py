"""Owns a running gateway with a service of two versions in this process, shoppers that never pause, and releases."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc
from aiohttp import web

from control_plane.admin import admin_pb2, admin_pb2_grpc
from control_plane.releases import releases_pb2 as pb
from control_plane.releases import releases_pb2_grpc
from control_plane.resources.names import EXT_AUTHZ_CLUSTER
from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.signing import HmacMerchant
from paymesh.cli.stack.local_stack import LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from tests.data_plane.forwarding_site import nobody

HOST = "127.0.0.1"
SHOPPERS = 24
MERCHANTS = [f"m{number:03}" for number in range(SHOPPERS)]
POLICY = """
gateway: {{allow_fault_injection: true}}
merchants:
{merchants}
channels: [{{name: bank, service: trade, products: [any]}}]
services:
  - name: trade
    versions:
      - {{name: v1, endpoints: [{{address: 127.0.0.1, port: {v1}}}], weight: 100}}
      - {{name: v2, endpoints: [{{address: 127.0.0.1, port: {v2}}}], weight: 0}}
  - name: checked
    health_check: {{http: {{path: /healthz}}, interval: 500ms, timeout: 500ms}}
    versions:
      - {{name: v1, endpoints: [{{address: 127.0.0.1, port: {v1}}}], weight: 100}}
      - {{name: v2, endpoints: [{{address: 127.0.0.1, port: {nobody}}}], weight: 0}}
routes:
  - name: pay
    match: {{path: /pay, methods: [POST]}}
    operation: pay
    schemes: [hmac]
    fields: {{order_no: /order_no, amount: /amount/total, currency: /amount/currency, product: /product}}
    channels: [bank]
  - {{name: checked, match: {{path: /checked}}, operation: other, service: checked}}
  - name: query
    match: {{path: /query, methods: [POST]}}
    operation: query
    schemes: [hmac]
    fields: {{order_no: /order_no}}
    service: trade
    safe_to_repeat: true
"""


@dataclass
class Version:
    """One version's host. Every `fails_every`-th payment fails (0: none); each takes `takes_s`."""

    name: str
    fails_every: int = 0
    takes_s: float = 0.0
    port: int = 0
    paid: int = 0
    hosts: list[str] = field(default_factory=list)
    """Of each query, as it said whom it asks: a copy asks for another host."""

    async def _pay(self, request: web.Request) -> web.Response:
        await request.read()
        self.paid += 1
        await asyncio.sleep(self.takes_s)
        told = {"x-version": self.name}
        if self.fails_every and self.paid % self.fails_every == 0:
            return web.json_response({"code": "busy"}, status=500, headers={**told, "x-on-purpose": "yes"})
        return web.json_response({"order_no": "any", "status": "SUCCEEDED"}, headers=told)

    async def _there(self, _: web.Request) -> web.Response:
        return web.Response(headers={"x-version": self.name})

    async def _query(self, request: web.Request) -> web.Response:
        await request.read()
        self.hosts.append(request.headers.get("host", ""))
        return web.json_response({"order_no": "any", "status": "SUCCEEDED"}, headers={"x-version": self.name})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Version]:
        app = web.Application()
        app.router.add_post("/pay", self._pay)
        app.router.add_post("/query", self._query)
        for path in ("/healthz", "/checked"):
            app.router.add_get(path, self._there)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, HOST, self.port).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


@dataclass(frozen=True)
class Told:
    """`on_purpose`: the service was told to fail."""

    status: int
    version: str
    on_purpose: bool
    body: str


@dataclass
class Seen:
    """What constant traffic saw. `versions`: by merchant, answers in order. `unchecked`: those
    answered "not processed". `late_checks`: so often, Envoy says, did ext_authz keep it waiting for more than its half
    second, which only a busy machine makes it do."""

    versions: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)
    answered: int = 0
    unchecked: int = 0
    late_checks: int = 0

    def moves(self, merchant: str) -> list[str]:
        """The versions that it was on, one after the other."""
        return [version for version, _ in itertools.groupby(self.versions[merchant])]

    def assert_none_failed(self) -> None:
        """But where a version was told to, and where the machine was too busy to check in time."""
        assert self.failures == []
        assert self.answered > 100
        assert self.unchecked <= min(self.late_checks, self.answered // 50)


@dataclass
class ReleaseSite:
    stack: LocalStack
    session: aiohttp.ClientSession
    keys: Mapping[str, HmacMerchant]
    v1: Version
    v2: Version
    channel: grpc.aio.Channel

    @property
    def releases(self) -> releases_pb2_grpc.ReleasesStub:
        return releases_pb2_grpc.ReleasesStub(self.channel)

    async def send(self, path: str, merchant: str, order_no: str, headers: Mapping[str, str] | None = None) -> Told:
        body = json.dumps(payment(order_no, "any") if path == "/pay" else {"order_no": order_no}).encode()
        signed = self.keys[merchant].headers("POST", path, body)
        sent = {"content-type": "application/json", **signed, **(headers or {})}
        url = f"http://{self.stack.ports.address('gateway')}{path}"
        async with self.session.post(url, data=body, headers=sent) as answer:
            told = answer.headers
            return Told(answer.status, told.get("x-version", ""), "x-on-purpose" in told, await answer.text())

    async def pay(self, merchant: str, order_no: str = "", headers: Mapping[str, str] | None = None) -> Told:
        return await self.send("/pay", merchant, order_no or uuid.uuid4().hex, headers)

    @contextlib.asynccontextmanager
    async def traffic(self, pause_s: float = 0.2) -> AsyncIterator[Seen]:
        """Every merchant pays, one order after the other, until the block ends; each did once before it begins."""
        seen = Seen()
        late_checks = await self._late_checks()

        async def shop(merchant: str, wait_s: float) -> None:
            while True:
                await asyncio.sleep(wait_s)
                wait_s = pause_s
                try:
                    told = await self.pay(merchant)
                except (aiohttp.ClientError, TimeoutError) as error:
                    seen.failures.append(f"{type(error).__name__} {error}")
                    continue
                seen.answered += 1
                if told.status == 503 and "not processed" in told.body:
                    seen.unchecked += 1
                    continue
                seen.versions[merchant].append(told.version)
                if told.status != 200 and not told.on_purpose:
                    seen.failures.append(f"{told.status} {told.body[:300]}")

        clients = [
            asyncio.create_task(shop(merchant, pause_s * number / SHOPPERS))
            for number, merchant in enumerate(MERCHANTS)
        ]
        try:
            async with asyncio.timeout(20):
                while len(seen.versions) < SHOPPERS:
                    await asyncio.sleep(0.05)
            yield seen
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            seen.late_checks = await self._late_checks() - late_checks

    async def _late_checks(self) -> int:
        counter = f"cluster.{EXT_AUTHZ_CLUSTER}.upstream_rq_timeout"
        url = f"http://{self.stack.ports.address('envoy_admin')}/stats?filter={counter}"
        async with self.session.get(url) as answer:
            return int((await answer.text()).partition(":")[2])

    async def apply(self, document: str) -> pb.Release:
        request = pb.ApplyRequest(file_name="release.yaml", text=document, reason="a test", actor="ann")
        return await self.releases.Apply(request, timeout=10, wait_for_ready=True)

    async def tell(self, name: str, command: str) -> pb.Release:
        request = pb.TellRequest(name=name, command=command, reason="a test", actor="ann")
        return await self.releases.Tell(request, timeout=10, wait_for_ready=True)

    async def get(self, name: str) -> pb.Release:
        return await self.releases.Get(pb.GetRequest(name=name), timeout=10, wait_for_ready=True)

    async def until(self, name: str, *phases: str, seconds: float = 60) -> pb.Release:
        """The release once it is in one of these phases."""
        release = pb.Release()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    release = await self.get(name)
                    if release.phase in phases:
                        return release
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not {phases} within {seconds} s: {release}") from None

    async def all_on(self, version: str) -> None:
        """Set by hand, and confirmed."""
        other = {"v1": "v2", "v2": "v1"}[version]
        admin = admin_pb2_grpc.AdminStub(self.channel)
        request = admin_pb2.SetWeightRequest(
            service="trade", weights={version: 10_000, other: 0}, reason="a test", actor="ann"
        )
        await admin.SetWeight(request, timeout=10)
        async with asyncio.timeout(20):
            while True:
                status = await admin.Status(admin_pb2.StatusRequest(), timeout=10)
                (service,) = [one for one in status.services if one.service == "trade"]
                if {one.version: one.actual_weight for one in service.versions} == {version: 10_000, other: 0}:
                    return
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running_release_site(folder: Path) -> AsyncIterator[ReleaseSite]:
    """A gateway whose merchants are `MERCHANTS`, all on v1."""
    async with contextlib.AsyncExitStack() as stack:
        v1, v2 = [await stack.enter_async_context(Version(name).running()) for name in ("v1", "v2")]
        (folder / "keys").mkdir()
        lines = []
        for merchant in MERCHANTS:
            file = folder / "keys" / f"{merchant}.key"
            file.write_text(f"a throw-away secret of {merchant}, 32 bytes")
            credentials = f"{{scheme: hmac, key_id: {merchant}, secret: {{file: {file}}}}}"
            lines.append(f"  - {{id: {merchant}, credentials: [{credentials}]}}")
        policy = folder / "policy.yaml"
        held, port = nobody()
        stack.callback(held.close)
        policy.write_text(POLICY.format(merchants="\n".join(lines), v1=v1.port, v2=v2.port, nobody=port))
        options = StackOptions(policy=(policy,), run_dir=folder / "run", ports=Ports.random())
        local = await stack.enter_async_context(LocalStack(options, say=lambda _: None))
        await local.ready()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=20)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(local.ports.address("admin")))
        keys = {name: HmacMerchant.from_file(name, folder / "keys" / f"{name}.key") for name in MERCHANTS}
        yield ReleaseSite(local, session, keys, v1, v2, channel)
