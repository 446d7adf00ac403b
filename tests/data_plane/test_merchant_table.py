"""A merchant in a table, through the real Envoy: known while its row is there, and a second later not any more."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.signing import HmacMerchant
from paymesh.cli.demo.world import World
from paymesh.cli.stack.local_stack import DEMO_POLICY, LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from paymesh.payments.merchant_table.schema import schema_sql

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    (folder / "policy").mkdir()
    (folder / "policy" / "grocer.key").write_text("a throw-away secret of the grocer")
    (folder / "policy" / "url").write_text("sqlite:///merchants.sqlite")
    (folder / "policy" / "table.yaml").write_text("merchant_table: {url: {file: url}}\n")
    file = folder / "policy" / "merchants.sqlite"
    document = {
        "id": "grocer",
        "credentials": [{"scheme": "hmac", "key_id": "grocer-1", "secret": {"file": "grocer.key"}}],
    }
    with sqlite3.connect(file) as connection:
        connection.executescript(schema_sql())
        connection.execute("INSERT INTO merchants VALUES ('grocer', ?, 1)", (json.dumps(document),))
        connection.execute("INSERT INTO merchant_keys VALUES ('hmac', 'grocer-1', 'grocer')")
    connection.close()
    return file


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(database: Path) -> AsyncIterator[World]:
    options = StackOptions(
        policy=(DEMO_POLICY, database.parent), run_dir=database.parent.parent / "run", ports=Ports.random()
    )
    async with LocalStack(options, say=lambda _: None) as stack:
        await stack.ready()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            yield World(session, stack.ports.address("gateway"), stack.keys, {})


async def test_a_row_is_a_merchant_and_a_deleted_row_is_nobody_within_a_second(database: Path, shop: World) -> None:
    grocer = HmacMerchant.from_file("grocer-1", database.parent / "grocer.key")
    assert (await shop.pay(payment(f"{shop.run}-row", "alipay_qr"), grocer)).status == 200
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM merchant_keys")
        connection.execute("DELETE FROM merchants")
    connection.close()
    await asyncio.sleep(1)
    after = await shop.pay(payment(f"{shop.run}-gone", "alipay_qr"), grocer)
    assert (after.status, after.reason) == (401, "credential_invalid")
