"""What the SDKs' tests share: trade without a gateway, and a whole stack whose policy is `policy/` beside this."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer

from paymesh.cli.samples.trade import build_trade
from paymesh.cli.stack.demo_keys import ensure_demo_keys
from paymesh.cli.stack.local_stack import LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports

POLICY = Path(__file__).resolve().parent / "policy"


@pytest.fixture(scope="session")
def sdk_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the whole demo's keys."""
    return ensure_demo_keys(tmp_path_factory.mktemp("sdk"))[0]


@pytest.fixture
async def trade(sdk_keys: Path, tmp_path: Path) -> AsyncIterator[TestServer]:
    """Trade alone. WeChat Pay and Alipay's QR page are not there: its Alipay and UnionPay sides ask nobody."""
    server = TestServer(
        build_trade(tmp_path / "trade.sqlite", "v1", "http://127.0.0.1:1", "http://127.0.0.1:1", sdk_keys)
    )
    await server.start_server()
    yield server
    await server.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shops(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """A running gateway with the merchants of `policy/`, one a test process."""
    options = StackOptions(policy=(POLICY,), run_dir=tmp_path_factory.mktemp("shops"), ports=Ports.random())
    async with LocalStack(options, say=lambda _: None) as running:
        await running.ready()
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session
