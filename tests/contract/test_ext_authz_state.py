"""ext_authz's state: which one the flags ask for, and what its metrics and health say of it."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from ext_authz.state import HEALTH_SERVICE, State, add_state_arguments, open_state
from paymesh.payments.denial import Unavailable
from paymesh.payments.nonces import InProcessNonces
from paymesh.payments.orders import InProcessOrders
from paymesh.server.startup import StartupError
from tests.contract.conftest import PATIENT_S
from tests.contract.valkey_process import ValkeyProcess, running_valkey

NOW = int(time.time())
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "TIMEOUT_MS", "PASSWORD_FILE"):
        monkeypatch.delenv(f"PAYMESH_STATE_{name}", raising=False)


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyProcess]:
    with running_valkey(tmp_path) as process:
        yield process


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_state_arguments(parser)
    return parser.parse_args(flags)


def opened(
    *flags: str, environ: Mapping[str, str] | None = None, registry: CollectorRegistry | None = None
) -> AbstractAsyncContextManager[State]:
    return open_state(parsed(*flags), registry or CollectorRegistry(), health.aio.HealthServicer(), environ or {})


async def test_without_a_url_the_state_is_this_process_s_own() -> None:
    registry = CollectorRegistry()
    async with opened(registry=registry) as state:
        assert isinstance(state.nonces, InProcessNonces)
        assert isinstance(state.orders, InProcessOrders)
        assert state.shared is None
    assert list(registry.collect()) == []  # an `up` of 0 would alert somebody


@pytest.mark.parametrize("by", ["flag", "variable"])
async def test_two_workers_share_what_they_have_seen(valkey: ValkeyProcess, unique: str, by: str) -> None:
    flags = (*(("--state-url", valkey.url) if by == "flag" else ()), "--state-timeout-ms", "5000")
    environ = {} if by == "flag" else {"PAYMESH_STATE_URL": valkey.url}
    async with opened(*flags, environ=environ) as one, opened(*flags, environ=environ) as other:
        assert await one.nonces.add(unique, NOW + 300, NOW)
        assert not await other.nonces.add(unique, NOW + 300, NOW)


async def test_a_password_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    with running_valkey(tmp_path, "requirepass hunter2") as server:
        flags = ("--state-url", server.url, "--state-password-file", str(tmp_path / "password"))
        async with opened(*flags) as state:
            assert state.shared is not None
            assert state.shared.state == "closed"


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        (("--state-url", "redis://h:x"), {}, "--state-url: host 1"),
        ((), {"PAYMESH_STATE_URL": "http://h"}, "PAYMESH_STATE_URL: the scheme"),
        (("--state-url", "redis://u:hunter2@h"), {}, "--state-url holds a password"),
        (("--state-password-file", "{file}"), {}, "without --state-url"),
        (("--state-url", "redis://h", "--state-password-file", "{file}.missing"), {}, "No such file"),
        (("--state-url", "redis://h", "--state-password-file", "{empty}"), {}, "empty"),
        (("--state-password-file", "{file}"), {"PAYMESH_STATE_URL": "redis://:hunter2@h"}, "a password both"),
    ],
)
async def test_what_cannot_be_used_keeps_it_from_starting(
    tmp_path: Path, flags: tuple[str, ...], environ: Mapping[str, str], said: str
) -> None:
    (tmp_path / "file").write_text("hunter2")
    (tmp_path / "empty").write_text("\n")
    names = {"file": tmp_path / "file", "empty": tmp_path / "empty"}
    with pytest.raises(StartupError, match=said) as refused:
        await opened(*(flag.format(**names) for flag in flags), environ=environ).__aenter__()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "fast", "10001"])
def test_a_timeout_that_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentError, match="whole number"):
        parsed(f"--state-timeout-ms={text}")


def test_flags_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed().state_timeout_ms == 50
    monkeypatch.setenv("PAYMESH_STATE_TIMEOUT_MS", "70")
    monkeypatch.setenv("PAYMESH_STATE_PASSWORD_FILE", "/run/password")
    assert parsed().state_timeout_ms == 70
    assert parsed().state_password_file == Path("/run/password")


Ask = Callable[[str], grpc.aio.UnaryUnaryCall]


@pytest_asyncio.fixture
async def asked() -> AsyncIterator[tuple[health.aio.HealthServicer, Ask]]:
    """The health service on a real gRPC port, and a client that asks it."""
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        yield servicer, lambda name: stub.Check(health_pb2.HealthCheckRequest(service=name))
    await server.stop(None)


async def becomes(ask: Ask, name: str, status: int) -> None:
    async with asyncio.timeout(PATIENT_S):
        while (await ask(name)).status != status:
            await asyncio.sleep(0.02)


async def test_health_and_metrics_tell_the_truth(
    own_valkey: ValkeyProcess, asked: tuple[health.aio.HealthServicer, Ask]
) -> None:
    servicer, ask = asked
    registry = CollectorRegistry()

    def metric(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"paymesh_shared_state_{name}", labels)

    args = parsed("--state-url", own_valkey.url, "--state-timeout-ms", "2000")
    async with open_state(args, registry, servicer, {}) as state:
        await becomes(ask, HEALTH_SERVICE, SERVING)
        assert metric("up") == 1
        await state.nonces.add("n", NOW + 10, NOW)
        assert metric("calls_total", outcome="ok") == 1
        assert metric("seconds_count") == 1
        own_valkey.kill()
        for _ in range(5):
            with pytest.raises(Unavailable):
                await state.nonces.add("n", NOW + 10, NOW)
        await becomes(ask, HEALTH_SERVICE, NOT_SERVING)
        assert (await ask("")).status == SERVING  # other routes go on
        assert metric("up") == 0
        assert metric("breaker_state", state="closed") == 0
        assert (metric("calls_total", outcome="open") or 0) >= 1
        own_valkey.start()
        await becomes(ask, HEALTH_SERVICE, SERVING)
        assert metric("up") == 1
        assert metric("breaker_state", state="closed") == 1
        assert await state.nonces.add("m", NOW + 10, NOW)


async def test_one_that_is_away_at_the_start_is_said_and_waited_for(
    own_valkey: ValkeyProcess, asked: tuple[health.aio.HealthServicer, Ask]
) -> None:
    servicer, ask = asked
    own_valkey.kill()
    async with open_state(parsed("--state-url", own_valkey.url), CollectorRegistry(), servicer, {}) as state:
        await becomes(ask, HEALTH_SERVICE, NOT_SERVING)
        with pytest.raises(Unavailable):
            await state.nonces.add("n", NOW + 10, NOW)
        own_valkey.start()
        await becomes(ask, HEALTH_SERVICE, SERVING)
