"""Owns `paymesh demo`: starts the stack, plays the scenarios in order, prints the table, stops everything."""

from __future__ import annotations

import argparse
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from paymesh.cli.demo.charges import CHARGES
from paymesh.cli.demo.payments import PAYMENTS
from paymesh.cli.demo.providers import PROVIDERS
from paymesh.cli.demo.refusals import REFUSALS
from paymesh.cli.demo.sanitizing import SANITIZING
from paymesh.cli.demo.scenario import Scenario
from paymesh.cli.demo.shifting import AT_FIRST, shifting
from paymesh.cli.demo.world import World
from paymesh.cli.set_weight import set_weights_and_wait
from paymesh.cli.stack.local_stack import LocalStack
from paymesh.cli.up import add_stack_arguments, run_stack, stack_options
from paymesh.cli.verbs import Verbs

UNSHIFTED = (*PAYMENTS, *PROVIDERS, *CHARGES, *REFUSALS, *SANITIZING)
"""All but those that shift traffic, which need the admin API."""


@dataclass(frozen=True, slots=True)
class Result:
    scenario: Scenario
    got: str

    @property
    def as_expected(self) -> bool:
        return self.got == self.scenario.expected


def add_demo_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("demo", help="start the stack, send real signed payments, print what came of them, stop")
    add_stack_arguments(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    return run_stack(stack_options(args), _demo)


async def _demo(stack: LocalStack) -> int:
    results = await play(stack)
    right = sum(result.as_expected for result in results)
    print(f"\ndemo: {right} of {len(results)} as expected")
    return 0 if right == len(results) else 1


async def play(stack: LocalStack) -> list[Result]:
    """Play every scenario against a running stack and print a row for each."""

    async def set_weights(weights: dict[str, int]) -> None:
        await set_weights_and_wait(stack.ports.address("admin"), "trade", weights, reason="demo", actor="demo")

    samples = {name: stack.ports.address(name) for name in ("card", "offline", "trade_v1", "trade_v2")}
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        world = World(session, stack.ports.address("gateway"), stack.keys, samples)
        scenarios = (*UNSHIFTED, *shifting(set_weights))
        _print_head(scenarios)
        results = [await _play_one(scenario, world) for scenario in scenarios]
    await set_weights(AT_FIRST)  # recorded weights outlive the demo: leave them as the demo's policy has them
    return results


async def _play_one(scenario: Scenario, world: World) -> Result:
    try:
        got = await scenario.act(world)
    except Exception as error:  # whatever went wrong is what the table must show
        got = f"{type(error).__name__}: {error}"
    result = Result(scenario, got)
    mark = "ok " if result.as_expected else "NOT"
    print(f"{mark} {_pad(scenario.name, 38)} {_pad(scenario.expected, 62)} {got}", flush=True)
    return result


def _print_head(scenarios: Sequence[Scenario]) -> None:
    print(f"\n{len(scenarios)} scenarios\n\n    {_pad('scenario', 38)} {_pad('expected', 62)} got")


def _pad(text: str, width: int) -> str:
    """Pad to `width` columns; Chinese characters take two."""
    return text + " " * (width - sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text))
