"""An Envoy with nothing of ours but its own rate-limit filter, pointed at ext_authz: the policy's limits hold."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import pytest
import pytest_asyncio
import yaml
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc

from paymesh.cli.stack.ports import Ports
from paymesh.server.envoy_binary import find_envoy
from tests.data_plane.limits_stack import Scripted
from tests.data_plane.test_shared_state import ext_authz

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
HOST, TYPES = "127.0.0.1", "type.googleapis.com/"
POLICY = """
rate_limits:
  - {name: per-merchant, key: [merchant], windows: [{requests: 1, per: 1m, burst: 5}]}
  - {name: per-app, key: [merchant, "header:x-app"], windows: [{requests: 1, per: 1m, burst: 2}]}
  - {name: a-day, kind: daily_count, key: [merchant, operation], max: 3}
  - {name: by-version, key: [version], windows: [{requests: 1, per: 1h, burst: 4}]}
  - {name: at-once, kind: concurrency, key: [merchant], max: 1}
  - {name: another-of-merchants, key: [merchant], requests_per_second: 1000, burst: 1000}
"""


def descriptor(*names: str) -> dict[str, object]:
    return {
        "actions": [
            {"request_headers": {"header_name": name, "descriptor_key": key}} for key, name in map(_pair, names)
        ]
    }


def _pair(name: str) -> tuple[str, str]:
    return (f"header:{name}", name) if name == "x-app" else (name, f"x-{name}")


def bootstrap(limiter: str, service_port: int) -> dict[str, object]:
    """As somebody writes it who has used that filter before and knows nothing of us but address and domain."""
    host, port = limiter.split(":")
    filters = [
        {
            "name": "envoy.filters.http.ratelimit",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
                "domain": "paymesh",
                "failure_mode_deny": True,
                "timeout": "2s",
                "rate_limit_service": {
                    "grpc_service": {"envoy_grpc": {"cluster_name": "limiter"}},
                    "transport_api_version": "V3",
                },
            },
        },
        {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        },
    ]
    limits = [
        descriptor("merchant"),
        descriptor("merchant", "x-app"),
        descriptor("merchant", "operation"),
        descriptor("version"),
    ]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "service"}}
    manager = {
        "@type": f"{TYPES}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": filters,
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route], "rate_limits": limits}]
        },
    }
    cluster = {
        "name": "limiter",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": _endpoint("limiter", host, int(port)),
    }
    service = {"name": "service", "load_assignment": _endpoint("service", HOST, service_port)}
    listener = {
        "address": _address(HOST, 0),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {
        "admin": {"address": _address(HOST, 0)},
        "static_resources": {"listeners": [listener], "clusters": [cluster, service]},
    }


def _endpoint(name: str, host: str, port: int) -> dict[str, object]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(host, port)}}]}]
    return {"cluster_name": name, "endpoints": endpoints}


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


@dataclass(frozen=True)
class Mesh:
    address: str
    limiter: str
    session: aiohttp.ClientSession

    async def get(self, **values: str) -> tuple[int, dict[str, str], bytes]:
        headers = {f"x-{name}": value for name, value in values.items()}
        async with self.session.get(f"http://{self.address}/", headers=headers) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()

    async def statuses(self, times: int, **values: str) -> Counter[int]:
        return Counter([(await self.get(**values))[0] for _ in range(times)])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory, demo_keys: Path) -> AsyncIterator[Mesh]:
    folder = tmp_path_factory.mktemp("mesh")
    policy = folder / "limits.yaml"
    policy.write_text(POLICY)
    limiter = Ports.random().address("ext_authz")
    admin = folder / "admin"
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(Scripted().running())
        (folder / "envoy.yaml").write_text(yaml.safe_dump(bootstrap(limiter, service.port)))
        await stack.enter_async_context(ext_authz(demo_keys, limiter, policy=policy))
        process = await asyncio.create_subprocess_exec(
            str(find_envoy()), "-c", str(folder / "envoy.yaml"), "--concurrency", "1", "--use-dynamic-base-id",
            "--admin-address-path", str(admin), "--log-path", str(folder / "envoy.log"),
        )  # fmt: skip
        stack.push_async_callback(process.wait)
        stack.callback(process.terminate)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        async with asyncio.timeout(20):
            while not (admin.exists() and admin.read_text()):
                await asyncio.sleep(0.05)
            while (await session.get(f"http://{admin.read_text()}/ready")).status != 200:
                await asyncio.sleep(0.05)
            listeners = await (await session.get(f"http://{admin.read_text()}/listeners")).text()
        yield Mesh(listeners.split("::")[1].strip(), limiter, session)


async def test_the_policys_limits_hold_by_envoys_own_filter(mesh: Mesh) -> None:
    merchant = uuid.uuid4().hex
    assert await mesh.statuses(8, merchant=merchant) == {200: 5, 429: 3}
    status, headers, body = await mesh.get(merchant=merchant)
    assert status == 429
    assert 50 <= int(headers["retry-after"]) <= 60
    assert headers["ratelimit"].startswith('"per-merchant";r=0;t=')
    assert headers["ratelimit-policy"] == '"per-merchant";q=5;w=300'
    assert headers["x-pay-reason"] == "rate_limited"
    assert json.loads(body)["code"] == "rate_limited"
    assert await mesh.statuses(1, merchant=uuid.uuid4().hex) == {200: 1}


async def test_every_descriptor_counts_and_a_refusal_takes_nothing(mesh: Mesh) -> None:
    merchant = uuid.uuid4().hex
    assert await mesh.statuses(4, merchant=merchant, app="a") == {200: 2, 429: 2}
    # The two that were refused by the app's limit took nothing of the merchant's five.
    assert await mesh.statuses(4, merchant=merchant) == {200: 3, 429: 1}


async def test_a_day_and_a_version_that_only_the_mesh_knows(mesh: Mesh) -> None:
    assert await mesh.statuses(5, merchant=uuid.uuid4().hex, operation="pay") == {200: 3, 429: 2}
    assert await mesh.statuses(6, version="v2") == {200: 4, 429: 2}


async def test_requests_without_a_descriptor_pass(mesh: Mesh) -> None:
    assert await mesh.statuses(20) == {200: 20}


async def test_another_domain_is_no_limit_but_an_error(mesh: Mesh) -> None:
    async with grpc.aio.insecure_channel(mesh.limiter) as channel:
        stub = rls_pb2_grpc.RateLimitServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ShouldRateLimit(rls_pb2.RateLimitRequest(domain="pay-mesh"))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        own = ratelimit_pb2.RateLimitDescriptor(limit={"requests_per_unit": 1, "unit": 1})
        own.entries.add(key="merchant", value="m")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ShouldRateLimit(rls_pb2.RateLimitRequest(domain="paymesh", descriptors=[own]))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_hits_and_a_named_limit(mesh: Mesh) -> None:
    merchant = uuid.uuid4().hex

    def asked(hits: int, limit: str | None = None) -> rls_pb2.RateLimitRequest:
        wanted = ratelimit_pb2.RateLimitDescriptor()
        wanted.entries.add(key="merchant", value=merchant)
        if limit is not None:
            wanted.entries.add(key="limit", value=limit)
        return rls_pb2.RateLimitRequest(domain="paymesh", descriptors=[wanted], hits_addend=hits)

    async with grpc.aio.insecure_channel(mesh.limiter) as channel:
        stub = rls_pb2_grpc.RateLimitServiceStub(channel)
        answers = [await stub.ShouldRateLimit(asked(3)) for _ in range(2)]
        assert [one.overall_code for one in answers] == [1, 2]  # OK, OVER_LIMIT
        status = answers[1].statuses[0]
        assert (status.current_limit.name, status.current_limit.requests_per_unit) == ("per-merchant", 1)
        assert status.duration_until_reset.seconds in range(50, 61)
        # Only the one that is named, which has room.
        assert (await stub.ShouldRateLimit(asked(900, "another-of-merchants"))).overall_code == 1
