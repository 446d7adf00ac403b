"""Owns where a release stands, and what each thing that happens does to it. Pure: time and verdicts come as events.

Every change of weights has a number of its own (`seq`), counted up with the state that asks for it. Whoever carries it
out records the number with the weights: asked again after a crash, the same number is done already. So no step is taken
twice, and none is left out: the state moves on only when `Applied` told that every node has the weights.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from paymesh.payments.releases.plan import TOTAL, Gate, Hold, OnFailure, Plan, SetWeight


class Phase(enum.StrEnum):
    WAITING = "waiting"
    """For what it depends on."""
    APPLYING = "applying"
    """A step's weights are on their way."""
    HOLDING = "holding"
    GATED = "gated"
    """A person has to promote."""
    PAUSED = "paused"
    """A person stopped the steps; analysis goes on."""
    FROZEN = "frozen"
    """The weights stay whatever the analysis says."""
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    PROMOTING = "promoting"
    PROMOTED = "promoted"


OVER = frozenset({Phase.ROLLED_BACK, Phase.PROMOTED})
MOVING = frozenset({Phase.APPLYING, Phase.ROLLING_BACK, Phase.PROMOTING})
"""Weights were asked for, and not every node has them."""


class Verdict(enum.StrEnum):
    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """Too little was seen: a hold goes on."""


class Command(enum.StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    """Past the gate, or the hold, or the pause: to the next step."""
    PROMOTE_FULL = "promote_full"
    """To the end, whatever steps are left."""
    ABORT = "abort"
    """Back, at once."""
    UNDO = "undo"
    """After the end: back to the stable version, at once."""
    FREEZE = "freeze"
    RETRY = "retry"
    """After it went back: from the first step again."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The release is applied. `ready`: whatever it depends on has passed."""

    ready: bool
    now_s: int


@dataclass(frozen=True, slots=True)
class DependenciesMet:
    now_s: int


@dataclass(frozen=True, slots=True)
class Applied:
    """Every connected node has the weights of this number."""

    seq: int
    now_s: int


@dataclass(frozen=True, slots=True)
class Tick:
    now_s: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What the analysis says of the step that it was begun in; a NACK or an unhealthy target is a FAIL of any."""

    verdict: Verdict
    why: str
    step: int | None
    """None: of whatever step it is."""
    now_s: int


@dataclass(frozen=True, slots=True)
class Told:
    """A person's command."""

    command: Command
    who: str
    why: str
    now_s: int


Event = Begin | DependenciesMet | Applied | Tick | Judged | Told


@dataclass(frozen=True, slots=True)
class State:
    """`step`: index of the step at work. `share`: what the target was given last. `before`: the phase that a pause
    interrupted. `left_s`: of the hold that a pause interrupted. `verdict`: of this step, so far."""

    phase: Phase = Phase.WAITING
    step: int = 0
    share: int = 0
    seq: int = 0
    hold_until_s: int | None = None
    left_s: int | None = None
    before: Phase | None = None
    verdict: Verdict | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """The state after an event. `apply`: whether the weights of `state.share` are to be set under `state.seq`."""

    state: State
    apply: bool = False


class NotNow(Exception):  # noqa: N818 - it names what was asked for
    """The command does not fit where the release stands; the message says why."""


def advance(plan: Plan, state: State, event: Event) -> Change:
    """What the event does. Raises NotNow for a person's command that cannot be followed; nothing then changes."""
    match event:
        case Begin():
            return _enter(plan, state, 0, event.now_s) if event.ready else Change(state)
        case DependenciesMet() if state.phase is Phase.WAITING:
            return _enter(plan, state, 0, event.now_s)
        case Applied():
            return _applied(plan, state, event)
        case Tick():
            return _after_hold(plan, state, event.now_s)
        case Judged():
            return _judged(plan, state, event)
        case Told():
            return _told(plan, state, event)
        case _:
            return Change(state)


def _enter(plan: Plan, state: State, step: int, now_s: int) -> Change:
    """The first thing that a step does; behind the last one the release is at its end."""
    fresh = replace(state, step=step, hold_until_s=None, left_s=None, before=None, verdict=None)
    if step >= len(plan.steps):
        return _promote(fresh, "every step is done")
    match plan.steps[step]:
        case SetWeight(weight):
            return _give(fresh, Phase.APPLYING, weight)
        case Hold(seconds):
            return Change(replace(fresh, phase=Phase.HOLDING, hold_until_s=now_s + seconds))
        case Gate():
            return Change(replace(fresh, phase=Phase.GATED))


def _give(state: State, phase: Phase, share: int) -> Change:
    return Change(replace(state, phase=phase, share=share, seq=state.seq + 1), apply=True)


def _promote(state: State, why: str) -> Change:
    return _give(replace(state, why=why), Phase.PROMOTING, TOTAL)


def _roll_back(state: State, why: str) -> Change:
    return _give(replace(state, why=why, hold_until_s=None, left_s=None, before=None), Phase.ROLLING_BACK, 0)


def _applied(plan: Plan, state: State, event: Applied) -> Change:
    if event.seq != state.seq:
        return Change(state)  # of weights that others have replaced since
    if state.phase is Phase.ROLLING_BACK:
        return Change(replace(state, phase=Phase.ROLLED_BACK))
    if state.phase is Phase.PROMOTING:
        return Change(replace(state, phase=Phase.PROMOTED))
    if state.phase is Phase.APPLYING:
        return _enter(plan, state, state.step + 1, event.now_s)
    if state.phase is Phase.PAUSED and state.before is Phase.APPLYING:
        # Confirmed while it was paused: what follows waits.
        return Change(replace(state, before=Phase.GATED))
    return Change(state)


def _after_hold(plan: Plan, state: State, now_s: int) -> Change:
    over = state.phase is Phase.HOLDING and state.hold_until_s is not None and now_s >= state.hold_until_s
    if not over or (plan.analysed and state.verdict is not Verdict.PASS):
        return Change(state)
    return _enter(plan, state, state.step + 1, now_s)


def _judged(plan: Plan, state: State, event: Judged) -> Change:
    if state.phase in OVER or state.phase is Phase.ROLLING_BACK or state.share == 0:
        return Change(state)
    if event.verdict is Verdict.FAIL:
        if state.phase is Phase.FROZEN:
            return Change(replace(state, verdict=Verdict.FAIL, why=event.why))
        if plan.on_failure is OnFailure.FREEZE:
            frozen = replace(state, phase=Phase.FROZEN, before=state.phase, verdict=Verdict.FAIL, why=event.why)
            return Change(frozen)
        return _roll_back(replace(state, verdict=Verdict.FAIL), event.why)
    if event.step != state.step:
        return Change(state)
    return _after_hold(plan, replace(state, verdict=event.verdict), event.now_s)


def _told(plan: Plan, state: State, event: Told) -> Change:
    command, phase = event.command, state.phase
    said = replace(state, why=event.why)
    if command is Command.UNDO:
        if phase is not Phase.PROMOTED:
            raise NotNow(f"only what is promoted can be undone; it is {phase}: abort it")
        return _roll_back(said, event.why)
    if command is Command.RETRY:
        if phase is not Phase.ROLLED_BACK:
            raise NotNow(f"only what went back can be tried again; it is {phase}")
        return _enter(plan, said, 0, event.now_s)
    if phase in OVER:
        raise NotNow(f"it is over: {phase}")
    if command is Command.ABORT:
        if phase is Phase.ROLLING_BACK:
            raise NotNow("it is going back already")
        return _roll_back(said, event.why)
    if phase in (Phase.ROLLING_BACK, Phase.PROMOTING):
        raise NotNow(f"it is {phase}: abort is all that can be done")
    if command is Command.PROMOTE_FULL:
        return _promote(said, event.why)
    if command is Command.FREEZE:
        if phase is Phase.FROZEN:
            raise NotNow("it is frozen already")
        return Change(_interrupted(said, Phase.FROZEN, event.now_s))
    if command is Command.PAUSE:
        if phase in (Phase.PAUSED, Phase.FROZEN):
            raise NotNow(f"it is {phase} already")
        return Change(_interrupted(said, Phase.PAUSED, event.now_s))
    if command is Command.RESUME:
        return _resumed(plan, said, event.now_s)
    return _promoted_by_one(plan, said, event.now_s)


def _interrupted(state: State, phase: Phase, now_s: int) -> State:
    """Paused or frozen; what is left of a hold is kept. A pause that is frozen stays one beneath."""
    if state.phase is Phase.PAUSED:
        return replace(state, phase=phase)
    left_s = None if state.hold_until_s is None else max(0, state.hold_until_s - now_s)
    return replace(state, phase=phase, before=state.phase, left_s=left_s, hold_until_s=None)


def _resumed(plan: Plan, state: State, now_s: int) -> Change:
    if state.phase not in (Phase.PAUSED, Phase.FROZEN):
        raise NotNow(f"it is neither paused nor frozen, it is {state.phase}")
    before = state.before
    resumed = replace(state, before=None, left_s=None)
    if before is Phase.WAITING:
        return Change(replace(resumed, phase=Phase.WAITING))
    if before is Phase.HOLDING:
        left_s = 0 if state.left_s is None else state.left_s
        verdict = None if state.verdict is Verdict.FAIL else state.verdict
        return Change(replace(resumed, phase=Phase.HOLDING, hold_until_s=now_s + left_s, verdict=verdict))
    if before is Phase.APPLYING:
        # The same weights under a new number: whether they arrived before the pause does not matter.
        return _give(resumed, Phase.APPLYING, state.share)
    step = plan.steps[state.step] if state.step < len(plan.steps) else None
    if isinstance(step, Gate):
        return Change(replace(resumed, phase=Phase.GATED))
    return _enter(plan, resumed, state.step + 1, now_s)


def _promoted_by_one(plan: Plan, state: State, now_s: int) -> Change:
    if state.phase is Phase.WAITING:
        raise NotNow("what it depends on has not passed")
    if state.phase is Phase.APPLYING:
        raise NotNow("the nodes have not confirmed the step's weights")
    if state.phase is Phase.FROZEN:
        raise NotNow("it is frozen: resume it first")
    if state.phase is Phase.PAUSED and state.before in (Phase.WAITING, Phase.APPLYING):
        raise NotNow("it was paused before the step was done: resume it")
    return _enter(plan, state, state.step + 1, now_s)
