"""Owns what a scenario is: a name, what is expected in words, and an act that tells what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from paymesh.cli.demo.world import World

Act = Callable[[World], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """As expected when the act returns exactly `expected`. An exception is what it got, and never as expected."""

    name: str
    expected: str
    act: Act
