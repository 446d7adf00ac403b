"""What the SDKs' tests share: the demo's keys, and the sample trade service without a gateway before it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from paymesh.cli.samples.trade import build_trade
from paymesh.cli.stack.demo_keys import ensure_demo_keys


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
