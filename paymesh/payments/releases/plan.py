"""Owns what a release is to do: steps in order, what is looked at meanwhile, and what happens when that fails.

Weights are of 10,000, and those of all versions always add up to it (DESIGN section 6).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

TOTAL = 10_000
Weights = Mapping[str, int]
"""By version, in the service's own order."""


class Kind(enum.StrEnum):
    CANARY = "canary"
    BLUE_GREEN = "blue_green"


class OnFailure(enum.StrEnum):
    ROLLBACK = "rollback"
    FREEZE = "freeze"
    """The weights stay as they are until a person says what to do."""


@dataclass(frozen=True, slots=True)
class SetWeight:
    """The new version's share of the traffic; the stable one has the rest."""

    weight: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing moves for so long. With an analysis it lasts until that has passed, too."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Gate:
    """A person promotes."""


Step = SetWeight | Hold | Gate


@dataclass(frozen=True, slots=True)
class Plan:
    """`stable` and `target` are versions of `service`. `analysed`: verdicts come while the target has traffic, and a
    hold ends with a pass only. `depends_on`: (service, version) whose checks must pass before the first step."""

    name: str
    service: str
    kind: Kind
    stable: str
    target: str
    steps: tuple[Step, ...]
    analysed: bool = False
    on_failure: OnFailure = OnFailure.ROLLBACK
    depends_on: tuple[tuple[str, str], ...] = ()

    def weights(self, versions: tuple[str, ...], share: int) -> dict[str, int]:
        """Every version's weight when the target has `share`: others than these two have nothing."""
        given = {self.stable: TOTAL - share, self.target: share}
        return {version: given.get(version, 0) for version in versions}


def plan_problems(plan: Plan, versions: tuple[str, ...]) -> list[str]:
    """What is wrong with it for a service of these versions."""
    found = [f"{plan.service} has no version {name}" for name in (plan.stable, plan.target) if name not in versions]
    if plan.stable == plan.target:
        found.append("stable and target are the same version")
    if not found and abs(versions.index(plan.stable) - versions.index(plan.target)) != 1:
        # Only between neighbours does growing one move merchants to it alone (DESIGN section 6).
        found.append(f"{plan.stable} and {plan.target} do not stand side by side: merchants would be reshuffled")
    shares = [step.weight for step in plan.steps if isinstance(step, SetWeight)]
    if shares != sorted(set(shares)) or any(not 0 < share <= TOTAL for share in shares):
        found.append("the weights of the steps rise, from above 0 to 100 percent at most")
    if any(isinstance(step, Hold) and step.seconds <= 0 for step in plan.steps):
        found.append("a hold takes some seconds")
    if not plan.steps:
        found.append("there are no steps")
    return found
