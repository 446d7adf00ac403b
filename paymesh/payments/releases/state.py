"""Owns where a release stands, and what each thing that happens does to it. Pure: time and verdicts come as events.

Every change of the traffic has a number of its own (`seq`), counted up with the state that asks for it. Whoever carries
it out compares what is asked for with what is there: done again after a crash, it is there already. So no step is taken
twice, and none is left out: the state moves on only when `Applied` told that every node has it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from paymesh.payments.policy.forwarding import Fault
from paymesh.payments.releases.analysis import Verdict
from paymesh.payments.releases.plan import Gate, Hold, OnFailure, Plan, SetPins, SetWeight
from paymesh.payments.releases.traffic import NO_RULES, TOTAL, Rules, Traffic


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
    ISOLATED = "isolated"
    """Every step of a version without weight is done: it stays reachable by its pins, until it is aborted."""
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    DRAINING = "draining"
    """All new traffic is where it is to stay; orders that began on the other version still go there."""
    RETIRING = "retiring"
    """They go there no longer."""


OVER = frozenset({Phase.ROLLED_BACK, Phase.PROMOTED})
ENDING = frozenset({Phase.ROLLING_BACK, Phase.PROMOTING, Phase.DRAINING, Phase.RETIRING})
"""The last weights are decided."""
STOPPED = frozenset({Phase.PAUSED, Phase.FROZEN})
"""Nothing moves until a person says so."""
_DRAINED = frozenset({Phase.RETIRING, *OVER})
"""Every order goes where the weights say."""


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


@dataclass(frozen=True, slots=True)
class Drilled:
    """A person has the target's requests fail or wait on purpose; None: no longer."""

    fault: Fault | None
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that people should read beside the state, such as which hook does not answer."""

    why: str


@dataclass(frozen=True, slots=True)
class HooksTold:
    """The hooks after this change have been told of it, or it was given up."""

    seq: int


Event = Begin | DependenciesMet | Applied | Tick | Judged | Told | Drilled | Noted | HooksTold


@dataclass(frozen=True, slots=True)
class State:
    """`step`: index of the step at work, begun at `since_s`. `share`: what the target was given last. `pinned`: so many
    steps' pins count. `seq`: of the change asked for last; `applied`: of the one that every node has; `hooked`: of the
    one that hooks were told the end of. `before`: the phase that a pause interrupted; `left_s`: of its hold.
    `verdict`: of this step, so far. `ends`: what it will be once it has drained. Times are Unix seconds."""

    phase: Phase = Phase.WAITING
    step: int = 0
    share: int = 0
    pinned: int = 0
    seq: int = 0
    applied: int = 0
    hooked: int = 0
    since_s: int = 0
    hold_until_s: int | None = None
    left_s: int | None = None
    before: Phase | None = None
    verdict: Verdict | None = None
    ends: Phase | None = None
    fault: Fault | None = None
    why: str = ""

    @property
    def pending(self) -> bool:
        """A change was asked for that not every node has; nothing is done about it while a person has stopped it."""
        return self.seq != self.applied and self.phase not in STOPPED

    @property
    def has_traffic(self) -> bool:
        """Some requests go to the target."""
        return self.share > 0 or self.pinned > 0


class NotNow(Exception):  # noqa: N818 - it names what was asked for
    """The command does not fit where the release stands; the message says why."""


def traffic(plan: Plan, versions: tuple[str, ...], state: State) -> Traffic:
    """What the nodes are to do in this state."""
    stay = (plan.stable, plan.target) if plan.orders_stay and state.phase not in _DRAINED else ()
    rules = replace(NO_RULES, salt=plan.salt, orders_stay=stay)
    if state.phase not in ENDING | OVER:
        rules = Rules(
            salt=plan.salt,
            pins=plan.pins(state.pinned),
            orders_stay=stay,
            mirror=(plan.target, plan.mirror) if plan.mirror and state.share < TOTAL else None,
            fault=None if state.fault is None else (plan.target, state.fault),
        )
    return Traffic(plan.weights(versions, state.share), rules)


def advance(plan: Plan, state: State, event: Event) -> State:
    """What the event does. Raises NotNow for a person's command that cannot be followed; nothing then changes."""
    match event:
        case Begin():
            return _enter(plan, state, 0, event.now_s) if event.ready else state
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
        case Drilled():
            return _drilled(state, event)
        case Noted():
            return replace(state, why=event.why)
        case HooksTold():
            return replace(state, hooked=max(state.hooked, event.seq))
        case _:
            return state


def _enter(plan: Plan, state: State, step: int, now_s: int) -> State:
    """The first thing that a step does; behind the last one the release is at its end."""
    fresh = replace(state, step=step, since_s=now_s, hold_until_s=None, left_s=None, before=None, verdict=None)
    if step >= len(plan.steps):
        if plan.isolate:
            return replace(fresh, phase=Phase.ISOLATED, step=len(plan.steps))
        return _promote(fresh, "every step is done")
    match plan.steps[step]:
        case SetWeight(weight):
            return _give(fresh, Phase.APPLYING, weight)
        case SetPins():
            return _give(replace(fresh, pinned=step + 1), Phase.APPLYING, state.share)
        case Hold(seconds):
            still = replace(fresh, phase=Phase.HOLDING, hold_until_s=now_s + seconds)
        case Gate():
            still = replace(fresh, phase=Phase.GATED)
    # What goes beside the weights, such as copies for the target, is there from the first step on.
    return _give(still, still.phase, still.share) if step == 0 else still


def _give(state: State, phase: Phase, share: int) -> State:
    return replace(state, phase=phase, share=share, seq=state.seq + 1)


def _promote(state: State, why: str) -> State:
    return _give(replace(state, why=why, fault=None), Phase.PROMOTING, TOTAL)


def _roll_back(state: State, why: str) -> State:
    cleared = replace(state, why=why, hold_until_s=None, left_s=None, before=None, ends=None, pinned=0, fault=None)
    return _give(cleared, Phase.ROLLING_BACK, 0)


def _applied(plan: Plan, state: State, event: Applied) -> State:
    if event.seq != state.seq:
        return state  # of weights that others have replaced since
    state = replace(state, applied=event.seq)
    match state.phase:
        case Phase.ROLLING_BACK:
            return _drain(plan, state, Phase.ROLLED_BACK, event.now_s)
        case Phase.PROMOTING:
            return _drain(plan, state, Phase.PROMOTED, event.now_s)
        case Phase.RETIRING:
            assert state.ends is not None  # it is drained towards something
            return replace(state, phase=state.ends, ends=None)
        case Phase.APPLYING:
            return _enter(plan, state, state.step + 1, event.now_s)
        case Phase.PAUSED if state.before is Phase.APPLYING:
            # Confirmed while it was paused: what follows waits.
            return replace(state, before=Phase.GATED)
        case _:
            return state


def _drain(plan: Plan, state: State, ends: Phase, now_s: int) -> State:
    if not plan.orders_stay:
        return replace(state, phase=ends)
    return replace(state, phase=Phase.DRAINING, ends=ends, hold_until_s=now_s + plan.drain_s)


def _retire(state: State) -> State:
    return _give(replace(state, hold_until_s=None), Phase.RETIRING, state.share)


def _after_hold(plan: Plan, state: State, now_s: int) -> State:
    if state.hold_until_s is None or now_s < state.hold_until_s:
        return state
    if state.phase is Phase.DRAINING:
        return _retire(state)
    # Without traffic nothing can be judged: such a hold, before the first step that moves any, ends by time.
    judged = plan.analysed and state.has_traffic
    if state.phase is not Phase.HOLDING or (judged and state.verdict is not Verdict.PASS):
        return state
    return _enter(plan, state, state.step + 1, now_s)


def _judged(plan: Plan, state: State, event: Judged) -> State:
    at_the_end = state.phase in ENDING and state.phase is not Phase.PROMOTING
    if state.phase in OVER or at_the_end or not state.has_traffic:
        return state
    if event.verdict is Verdict.FAIL:
        if state.phase is Phase.FROZEN:
            return state if state.verdict is Verdict.FAIL else replace(state, verdict=Verdict.FAIL, why=event.why)
        if plan.on_failure is OnFailure.FREEZE:
            return replace(_interrupted(state, Phase.FROZEN, event.now_s), verdict=Verdict.FAIL, why=event.why)
        return _roll_back(replace(state, verdict=Verdict.FAIL), event.why)
    if event.step != state.step:
        return state
    return _after_hold(plan, replace(state, verdict=event.verdict), event.now_s)


def _told(plan: Plan, state: State, event: Told) -> State:
    command, phase = event.command, state.phase
    said = replace(state, why=event.why)
    if command is Command.UNDO:
        if Phase.PROMOTED not in (phase, state.ends):
            raise NotNow(f"only what is promoted can be undone; it is {phase}: abort it")
        return _roll_back(replace(said, verdict=None), event.why)
    if command is Command.RETRY:
        if phase is not Phase.ROLLED_BACK:
            raise NotNow(f"only what went back can be tried again; it is {phase}")
        return _enter(plan, said, 0, event.now_s)
    if phase in OVER:
        raise NotNow(f"it is over: {phase}")
    if command is Command.ABORT:
        if phase is Phase.ROLLING_BACK or state.ends is Phase.ROLLED_BACK:
            raise NotNow("it is going back already")
        return _roll_back(replace(said, verdict=None), event.why)
    if command is Command.PROMOTE and phase is Phase.DRAINING:
        return _retire(said)
    if phase in ENDING:
        raise NotNow(f"it is {phase}: abort is all that can be done")
    return _told_between(plan, said, event)


def _told_between(plan: Plan, state: State, event: Told) -> State:
    """While there are steps left."""
    phase = state.phase
    match event.command:
        case Command.PROMOTE_FULL:
            if plan.isolate:
                raise NotNow("an isolated version gets no weight: abort it, and apply a release that is not isolated")
            return _promote(replace(state, verdict=None), event.why)
        case Command.FREEZE:
            if phase is Phase.FROZEN:
                raise NotNow("it is frozen already")
            return _interrupted(state, Phase.FROZEN, event.now_s)
        case Command.PAUSE:
            if phase in STOPPED:
                raise NotNow(f"it is {phase} already")
            return _interrupted(state, Phase.PAUSED, event.now_s)
        case Command.RESUME:
            return _resumed(plan, state, event.now_s)
        case _:
            return _promoted_by_one(plan, state, event.now_s)


def _drilled(state: State, event: Drilled) -> State:
    if state.phase not in (Phase.HOLDING, Phase.GATED, Phase.ISOLATED):
        raise NotNow(f"a drill needs a version that has traffic and stands still; it is {state.phase}")
    if not state.has_traffic:
        raise NotNow("the version has no traffic yet")
    return _give(replace(state, fault=event.fault, why=event.why), state.phase, state.share)


def _interrupted(state: State, phase: Phase, now_s: int) -> State:
    """Paused or frozen; what is left of a hold is kept. A pause that is frozen stays one beneath."""
    if state.phase is Phase.PAUSED:
        return replace(state, phase=phase)
    left_s = None if state.hold_until_s is None else max(0, state.hold_until_s - now_s)
    return replace(state, phase=phase, before=state.phase, left_s=left_s, hold_until_s=None)


def _resumed(plan: Plan, state: State, now_s: int) -> State:
    if state.phase not in STOPPED:
        raise NotNow(f"it is neither paused nor frozen, it is {state.phase}")
    before = state.before
    resumed = replace(state, before=None, left_s=None)
    match before:
        case Phase.WAITING:
            return replace(resumed, phase=Phase.WAITING)
        case Phase.HOLDING:
            left_s = 0 if state.left_s is None else state.left_s
            verdict = None if state.verdict is Verdict.FAIL else state.verdict
            return replace(resumed, phase=Phase.HOLDING, hold_until_s=now_s + left_s, verdict=verdict, since_s=now_s)
        case Phase.APPLYING | Phase.PROMOTING:
            # The same weights under a new number: whether they arrived before the pause does not matter.
            return _give(resumed, before, state.share)
    step = plan.steps[state.step] if state.step < len(plan.steps) else None
    if isinstance(step, Gate):
        return replace(resumed, phase=Phase.GATED)
    return _enter(plan, resumed, state.step + 1, now_s)


def _promoted_by_one(plan: Plan, state: State, now_s: int) -> State:
    before = state.before if state.phase is Phase.PAUSED else state.phase
    if before is Phase.WAITING:
        raise NotNow("what it depends on has not passed")
    if before is Phase.APPLYING:
        raise NotNow("the nodes have not confirmed the step's weights")
    if before is Phase.FROZEN:
        raise NotNow("it is frozen: resume it first")
    if before is Phase.ISOLATED:
        raise NotNow("an isolated version gets no weight: abort it, and apply a release that is not isolated")
    return _enter(plan, state, state.step + 1, now_s)
