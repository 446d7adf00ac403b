"""What every OverrideStore promises; and that what it keeps is in force until its time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from paymesh.payments.denial import Unavailable
from paymesh.payments.limits.override_store import OverrideFile, OverrideStore, follow, refresh
from paymesh.payments.limits.overrides import LimitOverride, OverridesInForce
from paymesh.payments.policy.callers import LimitSize, TokenRate
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_overrides import RedisOverrides

RATES = (TokenRate(5, 1, 9), TokenRate(100, 60, 100))


@pytest.fixture
def opened(shared_state: SharedState | None, tmp_path: Path) -> Callable[[], OverrideStore]:
    """As another process, or the same after a restart, opens it."""
    if shared_state is None:
        return lambda: OverrideFile(tmp_path / "more" / "overrides.json")
    return lambda: RedisOverrides(shared_state)


def override(name: str, *values: str, size: LimitSize = RATES, until_s: int = 2_000_000_000) -> LimitOverride:
    return LimitOverride((name, *values), size, until_s, "sale 促销", "ann", 1_900_000_000)


async def of(store: OverrideStore, name: str) -> list[LimitOverride]:
    return sorted((one for one in await store.read() if one.key[0] == name), key=lambda one: one.key)


async def test_what_is_put_is_there_for_everybody(opened: Callable[[], OverrideStore], unique: str) -> None:
    one, two = override(unique), override(unique, "m/1", "", "\x00支付", size=10**12)
    await opened().put(two)
    await opened().put(one)
    assert await of(opened(), unique) == [one, two]
    changed = override(unique, size=3)
    await opened().put(changed)
    assert await of(opened(), unique) == [changed, two]
    assert await opened().remove((unique,))
    assert not await opened().remove((unique,))
    assert await of(opened(), unique) == [two]


async def test_what_has_expired_is_not_in_force_and_goes(opened: Callable[[], OverrideStore], unique: str) -> None:
    store, in_force = opened(), OverridesInForce()
    await store.put(override(unique, until_s=1_000))
    await store.put(override(unique, "m", until_s=2_000))
    await refresh(store, in_force, 999)
    # Whoever was read before its end ends by itself.
    assert (in_force.find((unique, "x"), 999), in_force.find((unique, "x"), 1_000)) == (
        override(unique, until_s=1_000),
        None,
    )
    await refresh(store, in_force, 1_500)
    assert await of(store, unique) == [override(unique, "m", until_s=2_000)]
    assert in_force.find((unique, "x"), 999) is None


async def test_one_that_was_put_in_its_place_is_not_forgotten(opened: Callable[[], OverrideStore], unique: str) -> None:
    """Somebody sets a limit again just when another worker clears away what had expired."""
    expired, again = override(unique, until_s=1_000), override(unique, until_s=3_000)
    store = opened()
    await store.put(again)
    await store.forget(expired)
    assert await of(store, unique) == [again]
    await store.forget(again)
    assert await of(store, unique) == []


async def test_a_follower_sees_what_another_set(opened: Callable[[], OverrideStore], unique: str) -> None:
    in_force = OverridesInForce()
    following = asyncio.create_task(follow(opened(), in_force, lambda: 1_000, pause_s=0.01))
    try:
        # A file is one worker's own: the other process is the same store there.
        store = opened()
        if isinstance(store, OverrideFile):
            return
        await store.put(override(unique))
        async with asyncio.timeout(10):
            while in_force.find((unique, "m"), 1_000) is None:
                await asyncio.sleep(0.01)
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def test_the_one_for_exactly_these_values_goes_before_the_one_for_all() -> None:
    in_force = OverridesInForce()
    in_force.replace([override("limit"), override("limit", "m", size=4)])
    found = [in_force.find(("limit", value), 0) for value in ("m", "other")]
    assert [one.size for one in found if one is not None] == [4, RATES]
    assert in_force.find(("another", "m"), 0) is None


async def test_a_file_that_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(Unavailable):
        OverrideFile(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text("5")
    with pytest.raises(Unavailable, match="not a list"):
        OverrideFile(tmp_path / "bad.json")
    (tmp_path / "file").write_text("")
    store = OverrideFile(tmp_path / "file" / "overrides.json")
    with pytest.raises(Unavailable):
        await store.put(override("limit"))
    assert await store.read() == []


async def test_one_that_cannot_be_understood_does_not_hide_the_others(tmp_path: Path) -> None:
    path = tmp_path / "overrides.json"
    await OverrideFile(path).put(override("limit"))
    path.write_text(path.read_text().replace("[", '["{\\"key\\": 1}", ', 1))
    assert await OverrideFile(path).read() == [override("limit")]
