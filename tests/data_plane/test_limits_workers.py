"""Four ext_authz workers on one real Valkey, asked for three times their limits: what they admit together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc

from paymesh.cli.stack.ports import Ports
from paymesh.payments import internal_names as names
from tests.contract.valkey_process import ValkeyProcess, running_valkey
from tests.data_plane.test_shared_state import ext_authz, reason

pytestmark = pytest.mark.data_plane
WORKERS, SECONDS = 4, 30
RATE, BURST, BATCH = 80, 80, 10
"""The burst is a second's worth: a machine that stands still for less than that loses nothing."""
POLICY = f"""
rate_limits:
  - {{name: exact, key: [route], requests_per_second: {RATE}, burst: {BURST}}}
  - {{name: leased, key: [route], requests_per_second: {RATE}, burst: {BURST}, batch: {BATCH}}}
routes:
  - {{name: exact, match: {{path: /exact}}, operation: other, service: trade, rate_limits: [exact]}}
  - {{name: leased, match: {{path: /leased}}, operation: other, service: trade, rate_limits: [leased]}}
services: [{{name: trade, versions: [{{name: v1, endpoints: [{{address: 127.0.0.1, port: 1}}]}}]}}]
"""


async def test_what_is_admitted_is_the_limit(demo_keys: Path, tmp_path: Path) -> None:
    policy = tmp_path / "limits.yaml"
    policy.write_text(POLICY)
    (tmp_path / "valkey").mkdir()
    with running_valkey(tmp_path / "valkey") as valkey:
        seen, elapsed = await _asked(policy, demo_keys, valkey)
    exact, leased = seen["exact", "pass"], seen["leased", "pass"]
    limit = BURST + RATE * elapsed
    assert set(seen) == {(route, what) for route in ("exact", "leased") for what in ("pass", "rate_limited")}, seen
    assert abs(exact - limit) <= limit / 100, (exact, limit)
    # The documented bound (paymesh/payments/limits/leases.py).
    assert limit * 0.99 - WORKERS * BATCH <= leased <= limit * 1.01 + WORKERS * BATCH, (leased, limit)


async def _asked(policy: Path, keys: Path, valkey: ValkeyProcess) -> tuple[Counter[tuple[str, str]], float]:
    ports = Ports.random()
    addresses = [ports.address(name) for name in ("ext_authz", "ext_proc", "trade_v1", "trade_v2")]
    # The machine may be busy: here a deadline must not decide who passes.
    flags = ("--state-url", valkey.url, "--state-timeout-ms", "5000", "--log-level", "error")
    seen: Counter[tuple[str, str]] = Counter()
    async with contextlib.AsyncExitStack() as stack:
        for address in addresses:
            await stack.enter_async_context(ext_authz(keys, address, *flags, policy=policy))
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(address)) for address in addresses]
        stubs = [external_auth_pb2_grpc.AuthorizationStub(channel) for channel in channels]
        first = {route: await _first_passed(stubs[0], route, seen) for route in ("exact", "leased")}

        async def caller(route: str, stub: external_auth_pb2_grpc.AuthorizationStub) -> None:
            """Its part of three times the limit, evenly; late ones are made up for."""
            began, asked = time.monotonic(), 0
            while (now := time.monotonic() - began) < SECONDS:
                while asked < now * 3 * RATE / WORKERS:
                    asked += 1
                    seen[route, reason(await stub.Check(_check(route)))] += 1
                await asyncio.sleep(0.005)

        await asyncio.gather(*(caller(route, stub) for route in first for stub in stubs))
        return seen, time.monotonic() - first["exact"]


async def _first_passed(
    stub: external_auth_pb2_grpc.AuthorizationStub, route: str, seen: Counter[tuple[str, str]]
) -> float:
    """The full bucket begins to fill again when the first token is taken."""
    seen[route, reason(await stub.Check(_check(route)))] += 1
    return time.monotonic()


def _check(route: str) -> external_auth_pb2.CheckRequest:
    request = external_auth_pb2.CheckRequest()
    request.attributes.context_extensions[names.ROUTE_EXTENSION] = route
    http = request.attributes.request.http
    http.method, http.path = "GET", f"/{route}"
    return request
