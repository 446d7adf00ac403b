"""What every test may use: throw-away demo keys, and the whole stack, made once a test process."""

from __future__ import annotations

from paymesh.server import grpc_experiments

grpc_experiments.apply()  # before grpc is imported, as the services do

from collections.abc import AsyncIterator  # noqa: E402
from pathlib import Path  # noqa: E402

import aiohttp  # noqa: E402
import pytest  # noqa: E402
import pytest_asyncio  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from paymesh.cli.demo.world import World  # noqa: E402
from paymesh.cli.stack.demo_keys import ensure_demo_keys  # noqa: E402
from paymesh.cli.stack.local_stack import LocalStack, StackOptions  # noqa: E402
from paymesh.cli.stack.ports import Ports  # noqa: E402

# Time is measured in bench/, never asserted: a slow machine must not fail a property.
settings.register_profile("paymesh", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("paymesh")


@pytest.fixture(scope="session")
def demo_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys that examples/demo refers to (PAYMESH_DEMO_KEYS)."""
    keys, _ = ensure_demo_keys(tmp_path_factory.mktemp("run"))
    return keys


@pytest.fixture(scope="session")
def demo_environ(demo_keys: Path) -> dict[str, str]:
    return {"PAYMESH_DEMO_KEYS": str(demo_keys)}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """The whole local stack on random ports, one a test process. Tests that use it run in the session's loop."""
    run_dir = tmp_path_factory.mktemp("stack")
    async with LocalStack(StackOptions(run_dir=run_dir, ports=Ports.random()), say=lambda _: None) as running:
        await running.ready()
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(stack: LocalStack) -> AsyncIterator[World]:
    """Merchants that sign, and a look at what the sample services received."""
    samples = {name: stack.ports.address(name) for name in ("card", "offline", "trade_v1", "trade_v2")}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield World(session, stack.ports.address("gateway"), stack.keys, samples)
