"""Owns playing a plan without any server: the state machine of releases, simulated time, and payments that a seed
decides. Refuses I/O.

The nodes confirm each change after a second. A gate is promoted at once, which is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from paymesh.cli.release.exit_codes import exit_code
from paymesh.cli.release.simulated_checks import assumptions, findings
from paymesh.cli.release.simulated_traffic import SimulatedTraffic, World
from paymesh.cli.release.values import percent
from paymesh.payments.releases.analysis import Finding, Verdict, overall
from paymesh.payments.releases.plan import Plan, SetPins
from paymesh.payments.releases.state import (
    Applied,
    Begin,
    Command,
    Event,
    Judged,
    Phase,
    State,
    Tick,
    Told,
    advance,
)
from paymesh.payments.releases.words import duration_in_words, step_in_words

CONFIRMED_AFTER_S = 1
PATIENCE_S = 86_400
"""A hold that has lasted so much longer than it asked for is not going to end."""


@dataclass(frozen=True, slots=True)
class Moment:
    """`at_s`: since the release began. `step`: index of the step at work. `share`: the target's, of 10,000."""

    at_s: int
    step: int
    phase: Phase
    share: int
    what: str


class Simulation:
    """`state` is where it stands; `play` leads it to its end, or until a hold has outlasted PATIENCE_S."""

    def __init__(self, plan: Plan, world: World) -> None:
        self.state = State()
        self.now_s = 0
        self._plan = plan
        self._world = world
        self._traffic = SimulatedTraffic(world, plan.analysis.window_s if plan.analysis else 0)

    def play(self) -> Iterator[Moment]:
        for assumption in self._assumptions():
            yield self._moment(assumption)
        yield from self._happens(Begin(ready=True, now_s=self.now_s))
        while exit_code(self.state.phase) is None:
            if self._waits_in_vain():
                yield self._moment(f"no end: no pass for {duration_in_words(PATIENCE_S)} beyond the hold")
                return
            yield from self._next()

    def _next(self) -> Iterator[Moment]:
        match self.state.phase:
            case Phase.HOLDING:
                yield from self._hold()
            case Phase.GATED:
                yield self._moment("gate: promoted here; in earnest a person decides")
                yield from self._promote()
            case Phase.DRAINING:
                yield from self._wait_for_hold()
            case _:
                self.now_s += CONFIRMED_AFTER_S
                yield from self._happens(Applied(self.state.seq, self.now_s))

    def _hold(self) -> Iterator[Moment]:
        until_s, analysis = self.state.hold_until_s, self._plan.analysis
        assert until_s is not None  # it holds
        if analysis is None or not self.state.has_traffic:
            yield from self._wait_for_hold()
            return
        next_s = self.now_s + analysis.every_s
        if self.state.verdict is Verdict.PASS and until_s <= next_s:
            yield from self._wait_for_hold()
            return
        self.now_s = next_s
        seen = self._traffic.flow(next_s, analysis.every_s, self.state.share, pinned=self.state.pinned > 0)
        found = findings(analysis, self._world, seen)
        yield from self._judge(found)

    def _judge(self, found: list[Finding]) -> Iterator[Moment]:
        verdict, before = overall(found), self.state.verdict
        why = "; ".join(f"{one.rule}: {one.why}" for one in found if one.verdict is verdict)
        if verdict is not before:
            yield self._moment(f"{verdict}: {why}")
        yield from self._happens(Judged(verdict, why, self.state.step, self.now_s))

    def _wait_for_hold(self) -> Iterator[Moment]:
        assert self.state.hold_until_s is not None  # it holds, or it drains
        waited_s = max(0, self.state.hold_until_s - self.now_s)
        self.now_s += waited_s
        self._traffic.flow(self.now_s, waited_s, self.state.share, pinned=self.state.pinned > 0)
        yield from self._happens(Tick(self.now_s))

    def _promote(self) -> Iterator[Moment]:
        yield from self._happens(Told(Command.PROMOTE, "simulation", "simulated", self.now_s))

    def _happens(self, event: Event) -> Iterator[Moment]:
        before, self.state = self.state, advance(self._plan, self.state, event)
        if (before.step, before.phase) == (self.state.step, self.state.phase) and not isinstance(event, Begin):
            return
        if before.step != self.state.step:
            self._traffic.forget()
        yield self._moment(self._begun())

    def _begun(self) -> str:
        """What the state came to do, in words."""
        steps, phase = self._plan.steps, self.state.phase
        match phase:
            case Phase.APPLYING | Phase.HOLDING | Phase.GATED:
                return step_in_words(steps[self.state.step])
            case Phase.DRAINING:
                return f"orders stay where they began for {duration_in_words(self._plan.drain_s)}"
            case Phase.ROLLING_BACK:
                return "back to the stable version"
            case Phase.PROMOTING:
                return "all traffic to the target"
            case _:
                return str(phase).replace("_", " ")

    def _moment(self, what: str) -> Moment:
        return Moment(self.now_s, self.state.step, self.state.phase, self.state.share, what)

    def _waits_in_vain(self) -> bool:
        until_s = self.state.hold_until_s
        return self.state.phase is Phase.HOLDING and until_s is not None and self.now_s > until_s + PATIENCE_S

    def _assumptions(self) -> Iterator[str]:
        plan = self._plan
        for service, version in plan.depends_on:
            yield f"depends on {service} {version}: taken to have passed"
        if plan.hooks.before or plan.hooks.after:
            yield "hooks are not called"
        if any(isinstance(step, SetPins) for step in plan.steps):
            yield f"pins are taken to bring {percent(self._world.pinned)} of the payments"
        if plan.analysis is None:
            yield "without analysis nothing is judged: holds end by time"
        else:
            yield from assumptions(plan.analysis)
