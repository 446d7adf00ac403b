"""Owns the scenarios in which traffic moves between two versions while payments are made."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.scenario import Act, Scenario
from paymesh.cli.demo.signing import HmacMerchant
from paymesh.cli.demo.world import World

SetWeights = Callable[[dict[str, int]], Coroutine[None, None, None]]
"""Sets the trade service's weights (version -> hundredths of a percent) and returns when the data plane has them."""

AT_FIRST = {"v1": 9000, "v2": 1000}
"""The weights in the demo's policy."""
_LANES = 8
"""Payments under way at once."""


@dataclass
class Seen:
    """The versions that answered each merchant, in order, and how many payments did not succeed."""

    versions: dict[str, list[str]] = field(default_factory=dict)
    failed: int = 0

    def last(self) -> list[str]:
        return [versions[-1] for versions in self.versions.values() if versions]

    def flips(self) -> int:
        """Changes of version, over all merchants."""
        return sum(a != b for versions in self.versions.values() for a, b in itertools.pairwise(versions))

    def left_the_canary(self) -> int:
        pairs = (pair for versions in self.versions.values() for pair in itertools.pairwise(versions))
        return sum(pair == ("v2", "v1") for pair in pairs)


async def _pay(world: World, merchant: HmacMerchant, order: str, seen: Seen) -> None:
    answer = await world.pay(payment(order, "alipay_qr"), merchant)
    if answer.status == 200:
        seen.versions.setdefault(merchant.key_id, []).append(answer.headers.get("x-sample-version", "?"))
    else:
        seen.failed += 1


async def _round(world: World, label: str, seen: Seen) -> None:
    """One payment of every merchant."""
    waiting = asyncio.Queue[HmacMerchant]()
    for merchant in world.split_merchants:
        waiting.put_nowait(merchant)

    async def lane() -> None:
        while not waiting.empty():
            merchant = waiting.get_nowait()
            await _pay(world, merchant, f"{world.run}-{label}-{merchant.key_id}", seen)

    await asyncio.gather(*(lane() for _ in range(_LANES)))


def _at_ten_percent(set_weights: SetWeights) -> Act:
    async def act(world: World) -> str:
        await set_weights(AT_FIRST)
        seen = Seen()
        for number in range(3):
            await _round(world, f"ten-{number}", seen)
        share = seen.last().count("v2") / len(world.split_merchants)
        # Two hundred merchants at 10%: 99.9% of all splits lie between 4% and 18%.
        return f"{seen.failed} failed, {seen.flips()} flips, share of v2 {_band(share, 0.04, 0.18)}"

    return act


def _to_fifty_percent(set_weights: SetWeights) -> Act:
    async def act(world: World) -> str:
        await set_weights(AT_FIRST)
        seen = Seen()
        await _round(world, "before", seen)
        shift = asyncio.create_task(set_weights({"v1": 5000, "v2": 5000}))
        for number in itertools.count():
            await _round(world, f"during-{number}", seen)
            if shift.done():
                break
        await shift
        await _round(world, "after", seen)
        share = seen.last().count("v2") / len(world.split_merchants)
        moved_twice = sum(
            len(set(versions)) > 1 and versions != sorted(versions) for versions in seen.versions.values()
        )
        return (
            f"{seen.failed} failed, {moved_twice} flipped, {seen.left_the_canary()} left the canary, "
            f"share of v2 {_band(share, 0.38, 0.62)}"
        )

    return act


def _band(share: float, low: float, high: float) -> str:
    return "as set" if low <= share <= high else f"{share:.1%}"


def shifting(set_weights: SetWeights) -> tuple[Scenario, ...]:
    return (
        Scenario("10% of merchants on v2", "0 failed, 0 flips, share of v2 as set", _at_ten_percent(set_weights)),
        Scenario(
            "set-weight to 50% while payments run",
            "0 failed, 0 flipped, 0 left the canary, share of v2 as set",
            _to_fifty_percent(set_weights),
        ),
    )
