"""Owns what a release is to do: steps in order, what is looked at meanwhile, and what happens when that fails."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from paymesh.payments.policy.problems import DocumentPath, format_path
from paymesh.payments.releases.checks import STRICT, Analysis
from paymesh.payments.releases.traffic import TOTAL, Pin


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

    __pydantic_config__ = STRICT

    weight: int


@dataclass(frozen=True, slots=True)
class SetPins:
    """Some requests go to the new version whatever the weights, from here to the end of the release."""

    __pydantic_config__ = STRICT

    pins: tuple[Pin, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing moves for so long. With an analysis it lasts until that has passed, too; 0: for nothing else."""

    __pydantic_config__ = STRICT

    seconds: int


@dataclass(frozen=True, slots=True)
class Gate:
    """A person promotes."""

    __pydantic_config__ = STRICT


Step = SetWeight | SetPins | Hold | Gate
Problem = tuple[DocumentPath, str]
"""What of the document it is about, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """URLs that are told by POST. `before`: a step moves traffic only once each has answered 2xx. `after`: it has."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    timeout_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class Plan:
    """`stable` and `target` are versions of `service`. `analysis` None: nothing is looked at, and holds end by time.

    `isolate`: the target never gets any weight; it ends reachable by its pinned merchants alone. `depends_on`:
    (service, version) whose checks must pass before the first step. `salt`: of the merchants' order on their way to the
    target. `orders_stay`: each order goes on with the version that it began on, until `drain_s` seconds after the last
    step. `mirror`: share, of 10,000, of harmless requests that the target is shown while the release is under way.
    """

    name: str
    service: str
    kind: Kind
    stable: str
    target: str
    steps: tuple[Step, ...]
    analysis: Analysis | None = None
    on_failure: OnFailure = OnFailure.ROLLBACK
    depends_on: tuple[tuple[str, str], ...] = ()
    isolate: bool = False
    salt: str = ""
    orders_stay: bool = False
    drain_s: int = 0
    mirror: int = 0
    hooks: Hooks = Hooks()

    @property
    def analysed(self) -> bool:
        """Verdicts come while the target has traffic, and a hold ends with a pass only."""
        return self.analysis is not None

    def weights(self, versions: tuple[str, ...], share: int) -> dict[str, int]:
        """Every version's weight when the target has `share`: others than these two have nothing."""
        given = {self.stable: TOTAL - share, self.target: share}
        return {version: given.get(version, 0) for version in versions}

    def pins(self, steps: int) -> tuple[Pin, ...]:
        """Those that the first so many steps set."""
        found = [step.pins for step in self.steps[:steps] if isinstance(step, SetPins)]
        return tuple(pin for pins in found for pin in pins)


class UnfitPlan(Exception):  # noqa: N818 - it names what was found
    """The plan does not fit what it is for. `problems`: all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(f"{format_path(path)}: {message}" for path, message in problems))
        self.problems = tuple(problems)


def plan_problems(plan: Plan, versions: tuple[str, ...]) -> list[Problem]:
    """What is wrong with it for a service of these versions."""
    found: list[Problem] = [
        ((key,), f"{plan.service} has no version {name} (it has: {', '.join(versions)})")
        for key, name in (("stable", plan.stable), ("target", plan.target))
        if name not in versions
    ]
    if plan.stable == plan.target:
        found.append((("target",), "stable and target are the same version"))
    if not found and abs(versions.index(plan.stable) - versions.index(plan.target)) != 1:
        # Only between neighbours does growing one move merchants to it alone (DESIGN section 6).
        why = f"{plan.stable} and {plan.target} do not stand side by side: merchants would be reshuffled"
        found.append((("target",), why))
    shares = [step.weight for step in plan.steps if isinstance(step, SetWeight)]
    if shares != sorted(set(shares)) or any(not 0 < share <= TOTAL for share in shares):
        found.append((("steps",), "the weights of the steps rise, from above 0 to 100 percent at most"))
    if plan.isolate and shares:
        found.append((("isolate",), "an isolated version gets no weight"))
    shortest = 0 if plan.analysed else 1
    if any(isinstance(step, Hold) and step.seconds < shortest for step in plan.steps):
        found.append((("steps",), "a hold takes some seconds"))
    if not plan.steps:
        found.append((("steps",), "there are no steps"))
    return found
