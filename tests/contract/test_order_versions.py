"""What every OrderVersions promises; and how each backend forgets."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from typing import cast

import pytest

from paymesh.payments.denial import Unavailable
from paymesh.payments.order_versions import InProcessOrderVersions, OrderVersion, OrderVersions
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.keys import order_key, order_version_key
from paymesh.payments.shared_state.redis_nonces import KEPT_LONGER_S
from paymesh.payments.shared_state.redis_order_versions import RedisOrderVersions
from tests.contract.conftest import PATIENT_S
from tests.contract.valkey_process import ValkeyProcess, running_valkey

NOW = int(time.time())
V1, V2 = OrderVersion("trade", "v1"), OrderVersion("trade", "v2")
ELSEWHERE = OrderVersion("card", "v1.2_b-3")


@pytest.fixture
def versions(shared_state: SharedState | None) -> OrderVersions:
    return InProcessOrderVersions() if shared_state is None else RedisOrderVersions(shared_state)


async def test_an_order_that_nobody_told_of_is_not_known(versions: OrderVersions, unique: str) -> None:
    assert await versions.find(unique, "pay:1", NOW) is None


@pytest.mark.parametrize("version", [V1, V2, ELSEWHERE])
async def test_what_was_told_is_found(versions: OrderVersions, unique: str, version: OrderVersion) -> None:
    await versions.record(unique, "pay:1", version, NOW + 300, NOW)
    assert await versions.find(unique, "pay:1", NOW) == version
    assert await versions.find(unique, "pay:1", NOW + 300) == version


async def test_the_first_one_told_stays(versions: OrderVersions, unique: str) -> None:
    for number, version in enumerate((V1, V2, ELSEWHERE, V1)):
        await versions.record(unique, "pay:1", version, NOW + 300 + number, NOW + number)
        assert await versions.find(unique, "pay:1", NOW + number) == V1


async def test_of_hundreds_at_once_one_stays(versions: OrderVersions, unique: str) -> None:
    told = [OrderVersion("trade", f"v{number}") for number in range(100)]
    await asyncio.gather(*(versions.record(unique, "pay:1", version, NOW + 300, NOW) for version in told))
    found = [await versions.find(unique, "pay:1", NOW) for _ in range(3)]
    assert found[0] in told
    assert found == [found[0]] * 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "pay:1"), ("b", "pay:1")),
        (("a", "pay:1"), ("a", "pay:2")),
        (("a", "bpay:1"), ("ab", "pay:1")),
        (("\udcc3\udca9", "pay:1"), ("é", "pay:1")),
        (("a", ""), ("a", "\x00")),
        (("商户", "pay:订单"), ("商户", "pay:订单\r\n")),
    ],
)
async def test_orders_are_told_apart(
    versions: OrderVersions, unique: str, one: tuple[str, str], other: tuple[str, str]
) -> None:
    await versions.record(unique + one[0], one[1], V1, NOW + 300, NOW)
    assert await versions.find(unique + other[0], other[1], NOW) is None
    await versions.record(unique + other[0], other[1], V2, NOW + 300, NOW)
    assert await versions.find(unique + one[0], one[1], NOW) == V1
    assert await versions.find(unique + other[0], other[1], NOW) == V2


async def test_in_process_it_is_forgotten_after_the_latest_time_told() -> None:
    versions = InProcessOrderVersions()
    await versions.record("m", "pay:1", V1, 100, 0)
    await versions.record("m", "pay:1", V2, 200, 50)
    await versions.record("m", "pay:1", V2, 150, 60)
    assert await versions.find("m", "pay:1", 200) == V1
    assert await versions.find("m", "pay:1", 201) is None
    await versions.record("m", "pay:1", V2, 300, 201)
    assert await versions.find("m", "pay:1", 201) == V2


async def test_in_process_a_full_one_keeps_what_it_has() -> None:
    versions = InProcessOrderVersions(capacity=2)
    await versions.record("m", "pay:1", V1, 100, 0)
    await versions.record("m", "pay:2", V1, 50, 0)
    with pytest.raises(Unavailable):
        await versions.record("m", "pay:3", V1, 100, 0)
    await versions.record("m", "pay:1", V2, 200, 50)  # known, so it needs no room
    await versions.record("m", "pay:3", V2, 200, 51)
    with pytest.raises(Unavailable):
        await versions.record("m", "pay:4", V1, 200, 101)  # pay:1 is held longer since
    assert [await versions.find("m", f"pay:{number}", 51) for number in (1, 2, 3, 4)] == [V1, None, V2, None]


async def test_in_process_repeats_leave_nothing_behind() -> None:
    versions = InProcessOrderVersions()

    async def repeats(count: int) -> None:
        for number in range(count):
            await versions.record("m", "pay:1", V2, 1_000 + number, number)

    await repeats(3000)
    tracemalloc.start()
    await repeats(20_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100_000  # bytes; an entry each would be some millions


@pytest.mark.parametrize("backend", ["valkey", "cluster"])
async def test_shared_it_lives_until_the_latest_time_told(
    request: pytest.FixtureRequest, unique: str, backend: str
) -> None:
    server: ValkeyProcess = request.getfixturevalue(backend)
    state = SharedState(server.url.replace("redis", "redis+cluster" if backend == "cluster" else "redis"), timeout_s=20)
    versions, key = RedisOrderVersions(state), order_version_key(unique, "pay:1")
    lives_s = []
    # The caller's clock is wrong by a day: only the difference counts.
    for expires_at_s, now_s in ((300, 0), (900, 100), (500, 200), (100, 200)):
        await versions.record(unique, "pay:1", V1, NOW - 86_400 + expires_at_s, NOW - 86_400 + now_s)
        lives_s.append(cast(int, await state.call("PTTL", key)) / 1000 - KEPT_LONGER_S)
    assert lives_s == pytest.approx([300, 800, 800, 800], abs=PATIENT_S)
    await state.close()


async def test_shared_two_workers_know_the_same(valkey: ValkeyProcess, unique: str) -> None:
    one, other = (SharedState(valkey.url, timeout_s=PATIENT_S) for _ in range(2))
    await RedisOrderVersions(one).record(unique, "pay:1", V1, NOW + 300, NOW)
    await RedisOrderVersions(other).record(unique, "pay:1", V2, NOW + 300, NOW)
    assert await RedisOrderVersions(other).find(unique, "pay:1", NOW) == V1
    await one.close()
    await other.close()


async def test_shared_and_away_it_is_unavailable(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_valkey(tmp_path_factory.mktemp("away")) as server:
        state = SharedState(server.url, timeout_s=PATIENT_S)
        versions = RedisOrderVersions(state)
        await versions.record("m", "pay:1", V1, NOW + 300, NOW)
        server.kill()
        with pytest.raises(Unavailable):
            await versions.record("m", "pay:1", V1, NOW + 300, NOW)
        with pytest.raises(Unavailable):
            await versions.find("m", "pay:1", NOW)
        await state.close()


def test_no_order_number_stands_in_a_key_and_it_is_not_the_orders_own() -> None:
    key = order_version_key("shop", "pay:13812341234")
    assert "138" not in key
    assert "shop" not in key
    assert key != order_key("shop", "pay:13812341234")
