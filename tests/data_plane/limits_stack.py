"""Owns a whole local stack for tests of limits: Envoy, two ext_authz workers on one real Valkey behind a proxy that can
be slow, and a service in the test's own process that does what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from paymesh.cli.stack.local_stack import LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from paymesh.payments.limits.sizing import LEASE_MARGIN_S
from tests.contract.slow_proxy import SlowProxy
from tests.contract.valkey_process import HOST, ValkeyProcess, running_valkey
from tests.data_plane.test_shared_state import DEADLINE_S, ext_authz

TIMEOUT_S = 2
LEASE_S = TIMEOUT_S + LEASE_MARGIN_S
AT_ONCE = 12
POLICY = f"""
services: [{{name: scripted, versions: [{{name: v1, endpoints: [{{address: 127.0.0.1, port: "${{SCRIPTED}}"}}]}}]}}]
rate_limits:
  - {{name: local, key: ["header:x-caller", route], requests_per_second: 1, burst: 5}}
  - {{name: allow, key: ["header:x-caller"], requests_per_second: 1, burst: 5, on_error: allow}}
  - {{name: deny, key: ["header:x-caller"], requests_per_second: 1, burst: 1000, on_error: deny}}
  - {{name: together, kind: concurrency, key: [route], max: {AT_ONCE}, on_error: deny}}
  - {{name: one, kind: concurrency, key: ["header:x-caller"], max: 1}}
  - {{name: slow, kind: latency, key: [service], p95: 80ms, window: 1s, requests_per_second: 200, burst: 50}}
  - {{name: rate, key: [route], requests_per_second: 1000000, burst: 1000000}}
routes:
  - {{name: local, match: {{path: /local}}, operation: other, service: scripted, rate_limits: [local]}}
  - {{name: allow, match: {{path: /allow}}, operation: other, service: scripted, rate_limits: [allow]}}
  - {{name: deny, match: {{path: /deny}}, operation: other, service: scripted, rate_limits: [deny]}}
  - {{name: one, match: {{path: /one}}, operation: other, service: scripted, timeout: {TIMEOUT_S}s, rate_limits: [one]}}
  - {{name: slow, match: {{path: /slow}}, operation: other, service: scripted, rate_limits: [slow]}}
  - name: together
    match: {{path: /together}}
    operation: other
    service: scripted
    timeout: {TIMEOUT_S}s
    rate_limits: [together, rate]
"""


@dataclass
class Scripted:
    """The service. A request's `x-takes-ms` says how long it takes, `x-then: reset` that the connection breaks."""

    at_once: int = 0
    most_at_once: int = 0
    seen: int = 0
    port: int = 0
    random: random.Random = field(default_factory=lambda: random.Random(5))

    async def handle(self, request: web.Request) -> web.Response:
        self.seen += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(int(request.headers.get("x-takes-ms", "0")) / 1000)
            if request.headers.get("x-then") == "reset" and request.transport is not None:
                request.transport.abort()
            return web.Response(text="done")
        finally:
            self.at_once -= 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Scripted]:
        app = web.Application()
        app.router.add_route("*", "/{any:.*}", self.handle)
        runner = web.AppRunner(app, handle_signals=False, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


@dataclass(frozen=True)
class LimitsStack:
    stack: LocalStack
    service: Scripted
    valkey: ValkeyProcess
    proxy: SlowProxy
    session: aiohttp.ClientSession
    metrics: tuple[str, str]
    """Of the two workers."""

    @property
    def gateway(self) -> str:
        return self.stack.ports.address("gateway")

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str]]:
        """Status and headers (lower case). Header names are written with underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(f"http://{self.gateway}{path}", headers=sent) as answer:
            await answer.read()
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}

    async def metric(self, line: str) -> float:
        """The sum of both workers'."""
        total = 0.0
        for address in self.metrics:
            async with self.session.get(f"http://{address}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            total += sum(float(one.split()[-1]) for one in lines if one.startswith(f"{line} "))
        return total

    def slots_held(self) -> int:
        """Of all limits, as the store has them: a key expires with its last lease."""
        keys = [part for part in self.valkey.ask("KEYS", "paymesh:slots:*").split(b"\r\n") if part[:8] == b"paymesh:"]
        return sum(int(self.valkey.ask("ZCARD", key.decode()).strip(b":\r\n")) for key in keys)


@contextlib.asynccontextmanager
async def running_limits_stack(folder: Path) -> AsyncIterator[LimitsStack]:
    policy = folder / "policy.yaml"
    ports, second = Ports.random(), Ports.random()
    with _valkey(folder / "valkey") as valkey:
        async with contextlib.AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(SlowProxy(valkey.port).running())
            service = await stack.enter_async_context(Scripted().running())
            policy.write_text(POLICY.replace("${SCRIPTED}", str(service.port)))
            flags = ("--state-url", proxy.url, "--state-timeout-ms", str(round(DEADLINE_S * 1000)))
            other = second.address("ext_authz")
            options = StackOptions(
                policy=(policy,),
                run_dir=folder / "run",
                ports=ports,
                more={
                    "ext_authz": flags,
                    "control_plane": ("--ext-authz", f"{ports.address('ext_authz')},{other}"),
                },
            )
            local = LocalStack(options, say=lambda _: None)
            metrics = second.address("ext_authz_metrics")
            more = (*flags, "--metrics-listen", metrics)
            await stack.enter_async_context(ext_authz(local.keys, other, *more, policy=policy))
            await stack.enter_async_context(local)
            await local.ready()
            limit = aiohttp.TCPConnector(limit=0)
            session = await stack.enter_async_context(
                aiohttp.ClientSession(connector=limit, timeout=aiohttp.ClientTimeout(total=20))
            )
            yield LimitsStack(local, service, valkey, proxy, session, (ports.address("ext_authz_metrics"), metrics))


@contextlib.contextmanager
def _valkey(folder: Path) -> Iterator[ValkeyProcess]:
    folder.mkdir()
    with running_valkey(folder) as valkey:
        yield valkey
