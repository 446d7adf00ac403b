"""A release goes through its steps once and in order, whatever happens at the same time; and back whenever it must."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.policy.forwarding import Fault
from paymesh.payments.releases.analysis import RateRule, Verdict
from paymesh.payments.releases.checks import Analysis, Counting, RateCheck
from paymesh.payments.releases.plan import Gate, Hold, Kind, OnFailure, Plan, SetPins, SetWeight, plan_problems
from paymesh.payments.releases.state import (
    ENDING,
    OVER,
    Applied,
    Begin,
    Command,
    DependenciesMet,
    Drilled,
    Event,
    Judged,
    NotNow,
    Phase,
    State,
    Tick,
    Told,
    advance,
    traffic,
)
from paymesh.payments.releases.traffic import TOTAL, Pin, Traffic

ANALYSIS = Analysis((RateCheck(RateRule("success", max_drop=0.01), Counting.PAYMENTS),))
STEPS = (SetWeight(100), Hold(60), SetWeight(1000), Gate(), SetWeight(5000), Hold(60))
PLAN = Plan("trade-v2", "trade", Kind.CANARY, "v1", "v2", STEPS, ANALYSIS)
VERSIONS = ("v1", "v2", "v3")


class Run:
    """A release with a clock; weights are confirmed when told so."""

    def __init__(self, plan: Plan = PLAN, *, ready: bool = True) -> None:
        self.plan, self.state, self.now_s = plan, State(), 0
        self.given: list[int] = []
        self.happens(Begin(ready, 0))

    def happens(self, event: Event) -> None:
        before, self.state = self.state, advance(self.plan, self.state, event)
        if self.state.seq != before.seq:
            self.given.append(self.state.share)

    @property
    def traffic(self) -> Traffic:
        return traffic(self.plan, VERSIONS, self.state)

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
        ({"steps": (Hold(0),), "analysis": None}, "seconds"),
        ({"steps": (Hold(-1),)}, "seconds"),
        ({"steps": ()}, "no steps"),
    ],
)
def test_a_plan_that_would_do_harm_is_refused(changed: dict[str, object], said: str) -> None:
    assert any(said in problem for _, problem in plan_problems(replace(PLAN, **changed), VERSIONS))  # type: ignore[arg-type]
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
    return replace(
        PLAN,
        steps=tuple(steps),
        analysis=draw(st.sampled_from([None, ANALYSIS])),
        orders_stay=draw(st.booleans()),
        on_failure=draw(st.sampled_from(OnFailure)),
    )


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
            run.happens(event)
        except NotNow:
            assert run.state == before
            assert isinstance(event, Told)
            continue
        after, asked = run.state, run.state.seq != before.seq
        # Weights are asked for under a number of their own, and only these shares exist.
        assert after.seq - before.seq in (0, 1)
        assert after.share in {0, TOTAL, *(step.weight for step in plan.steps if isinstance(step, SetWeight))}
        if not asked:
            assert after.share == before.share
        # The next step's weights are asked for only when the last ones are everywhere, unless a person says so.
        if asked and after.phase is Phase.APPLYING and before.phase is Phase.APPLYING:
            assert before.seq in confirmed
        if isinstance(event, Tick | Judged) and before.phase in (Phase.PAUSED, *OVER):
            assert after.phase is before.phase or after.phase in (Phase.ROLLING_BACK, Phase.FROZEN)
        if isinstance(event, Tick) and before.pending:
            assert after == before
        if (
            isinstance(event, Judged)
            and event.verdict is Verdict.FAIL
            and before.share
            and before.phase not in OVER | ENDING
        ):
            assert after.phase in (Phase.ROLLING_BACK, Phase.FROZEN)
        # The same again changes nothing: what was told twice is done once.
        if isinstance(event, Applied) and event.seq == before.seq and not asked:
            assert advance(plan, after, event) == after or after.pending or after.phase is Phase.DRAINING


@given(plans())
def test_left_alone_and_healthy_every_plan_ends_promoted(plan: Plan) -> None:
    run = Run(plan)
    for _ in range(50):
        if run.state.pending:
            run.confirm()
        elif run.state.phase is Phase.GATED:
            run.tell(Command.PROMOTE)
        else:
            run.judge(Verdict.PASS)
            run.passes(100)
    assert run.state.phase is Phase.PROMOTED
    shares = [step.weight for step in plan.steps if isinstance(step, SetWeight)]
    retired = [TOTAL] if plan.orders_stay else []
    assert run.given == [*shares, TOTAL, *retired]


def test_pins_stay_until_the_weights_are_final() -> None:
    pin, other = Pin("merchant", "", "bookshop", "v2"), Pin("header", "x-canary", "1", "v2")
    run = Run(replace(PLAN, steps=(SetPins((pin,)), Hold(5), SetPins((other,)), SetWeight(1)), analysis=None))
    assert (run.traffic.rules.pins, run.traffic.weights["v2"]) == ((pin,), 0)
    run.confirm()
    run.passes(5)
    assert run.traffic.rules.pins == (pin, other)
    run.confirm()
    run.tell(Command.ABORT)
    assert run.traffic.rules.pins == ()


def test_an_isolated_version_never_gets_weight_and_stays_reachable() -> None:
    pin = Pin("merchant", "", "test-shop", "v2")
    run = Run(replace(PLAN, steps=(SetPins((pin,)), Hold(5)), isolate=True))
    run.confirm()
    run.judge(Verdict.PASS)
    run.passes(5)
    assert run.state.phase is Phase.ISOLATED
    for command in (Command.PROMOTE, Command.PROMOTE_FULL):
        with pytest.raises(NotNow, match="isolated"):
            run.tell(command)
    assert (run.traffic.weights["v2"], run.traffic.rules.pins) == (0, (pin,))
    run.judge(Verdict.FAIL)
    run.confirm()
    assert (run.state.phase, run.traffic.rules.pins) == (Phase.ROLLED_BACK, ())


def test_orders_stay_until_the_old_version_has_drained() -> None:
    run = Run(replace(PLAN, steps=(SetWeight(TOTAL),), analysis=None, orders_stay=True, drain_s=60))
    run.confirm()
    run.confirm()
    assert (run.state.phase, run.traffic.rules.orders_stay) == (Phase.DRAINING, ("v1", "v2"))
    with pytest.raises(NotNow, match="draining"):
        run.tell(Command.PAUSE)
    run.passes(60)
    assert run.traffic.rules.orders_stay == ()
    run.confirm()
    assert run.state.phase is Phase.PROMOTED
    back = Run(run.plan)
    back.tell(Command.ABORT)
    back.confirm()
    assert (back.state.phase, back.traffic.rules.orders_stay) == (Phase.DRAINING, ("v1", "v2"))
    with pytest.raises(NotNow, match="already"):
        back.tell(Command.ABORT)
    back.tell(Command.PROMOTE)  # not to wait for the rest of it
    back.confirm()
    assert back.state.phase is Phase.ROLLED_BACK


def test_a_drill_hits_the_target_alone_and_ends_with_the_release() -> None:
    fault = Fault(None, 0, 503, 500)
    run = Run()
    with pytest.raises(NotNow, match="stands still"):
        run.happens(Drilled(fault, "ann", "drill"))
    run.confirm()
    run.happens(Drilled(fault, "ann", "drill"))
    assert (run.traffic.rules.fault, run.state.phase) == (("v2", fault), Phase.HOLDING)
    run.confirm()
    assert run.state.phase is Phase.HOLDING
    run.judge(Verdict.FAIL)
    assert run.traffic.rules.fault is None


def test_a_hold_before_any_traffic_ends_by_time() -> None:
    run = Run(replace(PLAN, steps=(Hold(5), SetWeight(1), Hold(5))))
    assert run.given == [0], "what goes beside the weights"
    run.confirm()
    run.passes(5)
    assert run.given == [0, 1]


def test_a_step_that_waits_for_the_analysis_takes_as_long_as_that_does() -> None:
    run = Run(replace(PLAN, steps=(SetWeight(1), Hold(0), SetWeight(2), Gate())))
    run.confirm()
    run.passes(86_400)
    run.judge(Verdict.INCONCLUSIVE)
    run.passes(86_400)
    assert (run.state.phase, run.given) == (Phase.HOLDING, [1])
    run.judge(Verdict.PASS)
    assert run.given == [1, 2]
