"""A release goes through its steps once and in order, whatever happens at the same time; and back whenever it must."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.releases.plan import TOTAL, Gate, Hold, Kind, OnFailure, Plan, SetWeight, plan_problems
from paymesh.payments.releases.state import (
    MOVING,
    OVER,
    Applied,
    Begin,
    Change,
    Command,
    DependenciesMet,
    Event,
    Judged,
    NotNow,
    Phase,
    State,
    Tick,
    Told,
    Verdict,
    advance,
)

STEPS = (SetWeight(100), Hold(60), SetWeight(1000), Gate(), SetWeight(5000), Hold(60))
PLAN = Plan("trade-v2", "trade", Kind.CANARY, "v1", "v2", STEPS, analysed=True)
VERSIONS = ("v1", "v2", "v3")


class Run:
    """A release with a clock; weights are confirmed when told so."""

    def __init__(self, plan: Plan = PLAN, *, ready: bool = True) -> None:
        self.plan, self.state, self.now_s = plan, State(), 0
        self.given: list[int] = []
        self.happens(Begin(ready, 0))

    def happens(self, event: Event) -> Change:
        change = advance(self.plan, self.state, event)
        self.state = change.state
        if change.apply:
            self.given.append(self.state.share)
        return change

    def confirm(self) -> None:
        self.happens(Applied(self.state.seq, self.now_s))

    def passes(self, seconds: int) -> None:
        self.now_s += seconds
        self.happens(Tick(self.now_s))

    def judge(self, verdict: Verdict) -> None:
        self.happens(Judged(verdict, "seen", self.state.step, self.now_s))

    def tell(self, command: Command) -> None:
        self.happens(Told(command, "ann", "because", self.now_s))


def to_the_gate(plan: Plan = PLAN) -> Run:
    run = Run(plan)
    run.confirm()
    run.judge(Verdict.PASS)
    run.passes(60)
    run.confirm()
    assert run.state.phase is Phase.GATED
    return run


def test_a_healthy_one_is_promoted_step_by_step() -> None:
    run = to_the_gate()
    run.tell(Command.PROMOTE)
    run.confirm()
    run.passes(60)
    assert run.state.phase is Phase.HOLDING  # nobody said that it passes
    run.judge(Verdict.INCONCLUSIVE)
    run.passes(600)
    assert run.state.phase is Phase.HOLDING
    run.judge(Verdict.PASS)
    assert run.state.phase is Phase.PROMOTING
    run.confirm()
    assert run.state.phase is Phase.PROMOTED
    assert run.given == [100, 1000, 5000, TOTAL]


def test_a_failing_one_goes_back_from_its_first_step() -> None:
    run = Run()
    run.confirm()
    run.judge(Verdict.FAIL)
    assert (run.state.phase, run.given) == (Phase.ROLLING_BACK, [100, 0])
    run.confirm()
    assert run.state.phase is Phase.ROLLED_BACK
    run.tell(Command.RETRY)
    assert (run.state.step, run.given) == (0, [100, 0, 100])


def test_it_may_freeze_instead_and_go_on_when_a_person_says_so() -> None:
    run = Run(replace(PLAN, on_failure=OnFailure.FREEZE))
    run.confirm()
    run.judge(Verdict.FAIL)
    assert (run.state.phase, run.given) == (Phase.FROZEN, [100])
    run.passes(600)
    assert run.state.phase is Phase.FROZEN
    run.tell(Command.RESUME)
    assert run.state.phase is Phase.HOLDING
    run.judge(Verdict.PASS)
    run.passes(60)
    assert run.given == [100, 1000]


def test_it_waits_for_what_it_depends_on() -> None:
    run = Run(ready=False)
    run.passes(3600)
    assert (run.state.phase, run.given) == (Phase.WAITING, [])
    with pytest.raises(NotNow, match="depends on"):
        run.tell(Command.PROMOTE)
    run.happens(DependenciesMet(run.now_s))
    assert run.given == [100]


def test_a_pause_keeps_what_is_left_of_a_hold() -> None:
    run = Run()
    run.confirm()
    run.judge(Verdict.PASS)
    run.passes(40)
    run.tell(Command.PAUSE)
    run.passes(1000)
    assert run.state.phase is Phase.PAUSED
    run.tell(Command.RESUME)
    run.passes(19)
    assert run.state.phase is Phase.HOLDING
    run.passes(1)
    assert run.given == [100, 1000]


def test_weights_that_were_confirmed_during_a_pause_are_not_a_step_taken() -> None:
    run = Run()
    run.tell(Command.PAUSE)
    run.confirm()
    assert run.state.phase is Phase.PAUSED
    run.tell(Command.RESUME)
    assert run.state.phase is Phase.HOLDING


def test_what_is_promoted_is_undone_at_once() -> None:
    run = to_the_gate()
    run.tell(Command.PROMOTE_FULL)
    with pytest.raises(NotNow):
        run.tell(Command.UNDO)
    run.confirm()
    run.tell(Command.UNDO)
    assert (run.state.phase, run.given[-1]) == (Phase.ROLLING_BACK, 0)


@pytest.mark.parametrize(
    ("command", "phase"),
    [
        (Command.UNDO, "gated"),
        (Command.RETRY, "gated"),
        (Command.RESUME, "gated"),
    ],
)
def test_a_command_that_does_not_fit_says_why(command: Command, phase: str) -> None:
    run = to_the_gate()
    before = run.state
    with pytest.raises(NotNow, match=phase):
        run.tell(command)
    assert run.state == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stable": "v9"}, "trade has no version v9"),
        ({"target": "v1"}, "same version"),
        ({"target": "v3"}, "side by side"),
        ({"steps": (SetWeight(100), SetWeight(100))}, "rise"),
        ({"steps": (SetWeight(200), SetWeight(100))}, "rise"),
        ({"steps": (SetWeight(0),)}, "rise"),
        ({"steps": (SetWeight(TOTAL + 1),)}, "rise"),
        ({"steps": (Hold(0),)}, "seconds"),
        ({"steps": ()}, "no steps"),
    ],
)
def test_a_plan_that_would_do_harm_is_refused(changed: dict[str, object], said: str) -> None:
    assert any(said in problem for problem in plan_problems(replace(PLAN, **changed), VERSIONS))  # type: ignore[arg-type]
    assert plan_problems(PLAN, VERSIONS) == []


def test_weights_always_add_up() -> None:
    assert PLAN.weights(VERSIONS, 25) == {"v1": 9975, "v2": 25, "v3": 0}


_STEP = st.one_of(st.builds(Hold, st.integers(1, 100)), st.just(Gate()), st.just(None))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    shares = sorted(draw(st.sets(st.integers(1, TOTAL), min_size=1, max_size=4)))
    steps: list[SetWeight | Hold | Gate] = []
    for share in shares:
        steps.append(SetWeight(share))
        between = draw(_STEP)
        if between is not None:
            steps.append(between)
    return replace(PLAN, steps=tuple(steps), analysed=draw(st.booleans()), on_failure=draw(st.sampled_from(OnFailure)))


_HAPPENS = st.lists(
    st.one_of(
        st.tuples(st.just("applied"), st.integers(-2, 0)),
        st.tuples(st.just("tick"), st.integers(0, 80)),
        st.tuples(st.just("judged"), st.sampled_from(Verdict), st.integers(-1, 1)),
        st.tuples(st.just("told"), st.sampled_from(Command)),
    ),
    max_size=40,
)


@given(plans(), _HAPPENS)
def test_whatever_happens(plan: Plan, happenings: list[tuple[object, ...]]) -> None:
    run = Run(plan)
    confirmed: set[int] = set()
    for what, *told in happenings:
        before = run.state
        event: Event
        if what == "applied":
            event = Applied(max(0, before.seq + told[0]), run.now_s)  # type: ignore[operator]
            confirmed.add(event.seq)
        elif what == "tick":
            run.now_s += told[0]  # type: ignore[operator]
            event = Tick(run.now_s)
        elif what == "judged":
            event = Judged(Verdict(told[0]), "", before.step + told[1], run.now_s)  # type: ignore[operator]
        else:
            event = Told(Command(told[0]), "ann", "", run.now_s)
        try:
            change = run.happens(event)
        except NotNow:
            assert run.state == before
            assert isinstance(event, Told)
            continue
        after = change.state
        # Weights are asked for under a number of their own, and only these shares exist.
        assert change.apply == (after.seq != before.seq)
        assert after.seq - before.seq in (0, 1)
        assert after.share in {0, TOTAL, *(step.weight for step in plan.steps if isinstance(step, SetWeight))}
        if not change.apply:
            assert after.share == before.share
        # The next step's weights are asked for only when the last ones are everywhere, unless a person says so.
        if change.apply and after.phase is Phase.APPLYING and before.phase is Phase.APPLYING:
            assert before.seq in confirmed
        if isinstance(event, Tick | Judged) and before.phase in (Phase.PAUSED, *OVER):
            assert after.phase is before.phase or after.phase in (Phase.ROLLING_BACK, Phase.FROZEN)
        if isinstance(event, Tick) and before.phase in MOVING:
            assert after == before
        if isinstance(event, Judged) and event.verdict is Verdict.FAIL and before.share and before.phase not in OVER:
            assert after.phase in (Phase.ROLLING_BACK, Phase.FROZEN)
        # The same again changes nothing: what was told twice is done once.
        if isinstance(event, Applied) and event.seq == before.seq and not change.apply:
            assert advance(plan, after, event).state == after or after.phase in MOVING


@given(plans())
def test_left_alone_and_healthy_every_plan_ends_promoted(plan: Plan) -> None:
    run = Run(plan)
    for _ in range(50):
        if run.state.phase in MOVING:
            run.confirm()
        elif run.state.phase is Phase.GATED:
            run.tell(Command.PROMOTE)
        else:
            run.judge(Verdict.PASS)
            run.passes(100)
    assert run.state.phase is Phase.PROMOTED
    shares = [step.weight for step in plan.steps if isinstance(step, SetWeight)]
    assert run.given == [*shares, TOTAL]
