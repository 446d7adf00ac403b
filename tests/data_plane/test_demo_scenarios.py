"""Every scenario of `paymesh demo`, each a test of its own, through the real Envoy."""

from __future__ import annotations

import pytest

from paymesh.cli.demo.command import UNSHIFTED
from paymesh.cli.demo.scenario import Scenario
from paymesh.cli.demo.shifting import shifting
from paymesh.cli.demo.world import World
from paymesh.cli.set_weight import set_weights_and_wait
from paymesh.cli.stack.local_stack import LocalStack

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("scenario", UNSHIFTED, ids=lambda scenario: scenario.name)
async def test_scenario(scenario: Scenario, world: World) -> None:
    assert await scenario.act(world) == scenario.expected


@pytest.mark.parametrize("number", [0, 1])
async def test_shifting(number: int, stack: LocalStack, world: World) -> None:
    async def set_weights(weights: dict[str, int]) -> None:
        await set_weights_and_wait(stack.ports.address("admin"), "trade", weights, reason="test", actor="test")

    scenario = shifting(set_weights)[number]
    assert await scenario.act(world) == scenario.expected
