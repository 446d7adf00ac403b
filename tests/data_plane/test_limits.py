"""Limits of two ext_authz processes on one real Valkey: they hold together, and without it each does what it says."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import pytest
import pytest_asyncio
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ext_authz.state import HEALTH_SERVICE
from paymesh.cli.stack.ports import Ports
from paymesh.payments import internal_names as names
from tests.contract.valkey_process import ValkeyProcess, running_valkey
from tests.data_plane.test_shared_state import DEADLINE_S, MARGIN_S, ext_authz, reason

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
RATE, BURST = 20, 200
LIMITS = f"""
rate_limits:
  - {{name: wide, key: [client_ip], requests_per_second: {RATE}, burst: {BURST}}}
  - {{name: local, key: [client_ip, route], requests_per_second: 1, burst: 2}}
  - {{name: allow, key: [client_ip, operation], requests_per_second: 1, burst: 2, on_error: allow}}
  - {{name: deny, key: [route], requests_per_second: 1, burst: 1000, on_error: deny}}
  - {{name: trial, key: [client_ip], requests_per_second: 1, burst: 1, mode: shadow, on_error: deny}}
routes:
"""
ROUTE = "  - {name: open-NAME, match: {path: /open/NAME}, operation: other, service: trade, rate_limits: [NAME]}\n"
POLICY = LIMITS + "".join(ROUTE.replace("NAME", name) for name in ("wide", "local", "allow", "deny", "trial"))


@dataclass(frozen=True)
class Workers:
    stubs: tuple[external_auth_pb2_grpc.AuthorizationStub, ...]
    health: health_pb2_grpc.HealthStub
    metrics: str

    async def check(self, limit: str, client: str, worker: int = 0) -> external_auth_pb2.CheckResponse:
        request = external_auth_pb2.CheckRequest()
        request.attributes.context_extensions[names.ROUTE_EXTENSION] = f"open-{limit}"
        request.attributes.source.address.socket_address.address = client
        http = request.attributes.request.http
        http.method, http.path = "GET", f"/open/{limit}"
        return await self.stubs[worker].Check(request)

    async def reasons(self, limit: str, client: str, times: int) -> list[str]:
        return [reason(await self.check(limit, client)) for _ in range(times)]

    async def serving(self) -> bool:
        answer = await self.health.Check(health_pb2.HealthCheckRequest(service=HEALTH_SERVICE))
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    async def metric(self, line: str) -> float:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.metrics}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return next((float(one.split()[-1]) for one in lines if one.startswith(f"{line} ")), 0.0)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(
    valkey: ValkeyProcess, demo_keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Workers]:
    policy = tmp_path_factory.mktemp("policy") / "limits.yaml"
    policy.write_text(POLICY)
    ports = Ports.random()
    addresses = ports.address("ext_authz"), ports.address("ext_proc")
    flags = ("--policy", str(policy), "--state-url", valkey.url, "--state-timeout-ms", str(round(DEADLINE_S * 1000)))
    async with contextlib.AsyncExitStack() as stack:
        metrics = ports.address("ext_authz_metrics")
        await stack.enter_async_context(ext_authz(demo_keys, addresses[0], *flags, "--metrics-listen", metrics))
        await stack.enter_async_context(ext_authz(demo_keys, addresses[1], *flags))
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(one)) for one in addresses]
        stubs = tuple(external_auth_pb2_grpc.AuthorizationStub(channel) for channel in channels)
        yield Workers(stubs, health_pb2_grpc.HealthStub(channels[0]), metrics)


async def test_a_limit_holds_over_both_processes(workers: Workers) -> None:
    turns = asyncio.Semaphore(8)

    async def attempt(caller: str, number: int) -> str:
        async with turns:
            return reason(await workers.check("wide", caller, number % 2))

    # A call that misses its deadline is answered by the process alone (`on_error: local`), which admits more. On a busy
    # machine that happens: then once more, with another caller.
    for caller in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"):
        began = time.monotonic()
        seen = Counter(await asyncio.gather(*(attempt(caller, number) for number in range(3 * BURST))))
        assert seen.keys() == {"pass", "rate_limited"}
        most = BURST + RATE * (time.monotonic() - began) + 1
        if seen["pass"] <= most:
            break
        await asyncio.sleep(2)  # the circuit breaker closes again
    assert BURST <= seen["pass"] <= most


async def test_every_caller_has_its_own_and_hears_when_to_come_back(workers: Workers) -> None:
    assert await workers.reasons("local", "10.0.0.2", 3) == ["pass", "pass", "rate_limited"]
    assert await workers.reasons("local", "10.0.0.3", 1) == ["pass"]
    refused = (await workers.check("local", "10.0.0.2")).denied_response
    headers = {option.header.key: option.header.value for option in refused.headers}
    assert refused.status.code == 429
    assert headers["retry-after"] == "1"
    assert headers["ratelimit"] == '"local";r=0;t=1'
    assert headers["ratelimit-policy"] == '"local";q=2;w=2'


async def test_a_shadow_is_counted_and_refuses_nobody(workers: Workers) -> None:
    counted = 'paymesh_ext_authz_limits_shadowed_total{limit="trial"}'
    before = await workers.metric(counted)
    assert await workers.reasons("trial", "10.0.0.4", 4) == ["pass"] * 4
    assert await workers.metric(counted) >= before + 2


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_without_the_store_each_limit_does_what_it_says(
    workers: Workers, valkey: ValkeyProcess, how: str
) -> None:
    client = f"10.1.0.{'kill freeze'.index(how)}"
    counted = 'paymesh_ext_authz_limits_without_store_total{limit="allow"}'
    before = await workers.metric(counted)
    getattr(valkey, how)()
    try:
        took = []
        for _ in range(10):
            began = time.monotonic()
            assert reason(await workers.check("allow", client)) == "pass"
            took.append(time.monotonic() - began)
        # The median: on a busy machine a single check may wait for the processor, which no deadline can help.
        assert statistics.median(took) <= DEADLINE_S + MARGIN_S, took
        assert await workers.reasons("deny", client, 2) == ["unavailable"] * 2
        assert (await workers.check("deny", client)).denied_response.status.code == 503
        assert (await workers.reasons("local", client, 3))[:2] == ["pass"] * 2
        assert await workers.reasons("trial", client, 4) == ["pass"] * 4
        assert not await workers.serving()
        assert await workers.metric(counted) == before + 10
        assert await workers.metric("paymesh_shared_state_up") == 0
    finally:
        valkey.start() if how == "kill" else valkey.thaw()
    async with asyncio.timeout(20):
        while not await workers.serving():
            await asyncio.sleep(0.02)
    assert await workers.reasons("deny", client, 2) == ["pass"] * 2
    assert await workers.metric("paymesh_shared_state_up") == 1
