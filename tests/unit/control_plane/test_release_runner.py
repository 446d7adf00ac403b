"""Releases carried out: killed at every point and started again they end the same and repeat no step; what others say,
or do not say, holds up what it should and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from control_plane.gateway import Gateway
from control_plane.releases.runner import ReleaseRunner, Router
from control_plane.releases.store import Release, ReleaseConflict, ReleaseStore, UnknownRelease
from control_plane.releases.xds_router import XdsRouter
from control_plane.settings import GatewaySettings
from control_plane.weights import WeightStore
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.releases.analysis import Finding, RateRule, Verdict
from paymesh.payments.releases.checks import Analysis, Counting, RateCheck
from paymesh.payments.releases.codec import decode_plan, encode_plan
from paymesh.payments.releases.plan import Gate, Hold, Hooks, Kind, OnFailure, Plan, SetPins, SetWeight, UnfitPlan
from paymesh.payments.releases.state import OVER, Command, NotNow, Phase, State
from paymesh.payments.releases.traffic import NO_RULES, TOTAL, Pin, Traffic

ANALYSIS = Analysis((RateCheck(RateRule("success", max_drop=0.01), Counting.PAYMENTS),), every_s=1)
STEPS = (SetWeight(100), Hold(10), SetWeight(5_000), Hold(10))
PLAN = Plan("trade-v2", "trade", Kind.CANARY, "v1", "v2", STEPS, salt="s1")
PINNED = replace(
    PLAN, steps=(SetPins((Pin("merchant", "", "m1", "v2"),)), *STEPS), orders_stay=True, drain_s=5, analysis=ANALYSIS
)


Step = tuple[Phase, int, int]


class Killed(BaseException):
    """The process ends here."""


class Nodes:
    """A router that keeps what it was told over deaths of the process, as SQLite and Envoys do; confirmed at once."""

    def __init__(self) -> None:
        self.told: list[Traffic] = []
        self.now = Traffic({"v1": TOTAL, "v2": 0})
        self.confirms = True
        self.refusal = ""

    def versions(self, service: str) -> tuple[str, ...] | None:
        return ("v1", "v2") if service == "trade" else None

    def traffic(self, service: str) -> Traffic | None:
        return self.now if service == "trade" else None

    def actual(self, service: str) -> Traffic | None:
        return self.now if self.confirms and service == "trade" else None

    def refused(self, _service: str) -> str:
        return self.refusal

    async def apply(self, _service: str, wanted: Traffic, _who: str, _why: str) -> None:
        self.now = wanted
        self.told.append(wanted)

    @property
    def shares(self) -> list[int]:
        return [one.weights["v2"] for one in self.told]


class Others:
    """Whoever is asked: the analysis and the hooks."""

    def __init__(self) -> None:
        self.verdict = Verdict.PASS
        self.sick = ""
        self.disagree = ""
        self.deaf = ""
        self.asked: list[int] = []
        self.heard: list[tuple[int, int]] = []
        self.looking: Callable[[], None] = lambda: None

    def unhealthy(self, _plan: Plan, _state: State) -> str:
        return self.sick

    async def look(self, _plan: Plan, _state: State) -> list[Finding]:
        self.looking()
        return [Finding("success", self.verdict, "seen")]

    async def before(self, _plan: Plan, state: State) -> str:
        self.asked.append(state.seq)
        return self.disagree

    async def after(self, _plan: Plan, state: State) -> str:
        if not self.deaf:
            self.heard.append((state.seq, state.share))
        return self.deaf


class Fragile:
    """Dies at the so-many-th point: before or after something durable happens."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.points: list[str] = []

    def point(self, name: str) -> None:
        self.points.append(name)
        if len(self.points) == self.at:
            raise Killed(name)


class FragileStore(ReleaseStore):
    fragile: Fragile

    def change(self, name: str, before: State, after: State, who: str, what: str, now_s: int) -> None:
        self.fragile.point(f"before {before.phase} -> {after.phase}")
        super().change(name, before, after, who, what, now_s)
        self.fragile.point(f"after {before.phase} -> {after.phase}")


class FragileRouter(Nodes):
    def __init__(self, nodes: Nodes, fragile: Fragile) -> None:
        super().__init__()
        self._nodes, self._fragile = nodes, fragile
        self.versions, self.traffic, self.actual = nodes.versions, nodes.traffic, nodes.actual  # type: ignore[method-assign]

    async def apply(self, service: str, wanted: Traffic, who: str, why: str) -> None:
        self._fragile.point(f"before weight {wanted.weights['v2']}")
        await self._nodes.apply(service, wanted, who, why)
        self._fragile.point(f"after weight {wanted.weights['v2']}")


class Clock:
    now_s = 1_000

    def __call__(self) -> int:
        return self.now_s


class Table:
    """A runner with all that it needs, and time that passes when told."""

    def __init__(self, folder: Path, router: Router | None = None) -> None:
        self.store = ReleaseStore(folder / "releases.sqlite")
        self.nodes, self.others, self.clock = Nodes(), Others(), Clock()
        self.runner = ReleaseRunner(self.store, router or self.nodes, self.others, self.others, self.clock)

    async def turns(self, count: int, seconds: int = 1) -> None:
        for _ in range(count):
            await self.runner.run_once()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.clock.now_s += seconds

    async def until(self, phase: Phase, name: str = "trade-v2") -> None:
        for _ in range(200):
            if self.runner.get(name).state.phase is phase:
                return
            await self.turns(1)
        raise AssertionError(self.runner.get(name).state)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


async def play(folder: Path, plan: Plan, die_at: int) -> tuple[Nodes, list[str], list[Step]]:
    """The whole release, with one death at this point (0: none): what nodes were told, points passed, steps taken."""
    nodes, clock, fragile, others = Nodes(), Clock(), Fragile(die_at), Others()

    def started() -> tuple[ReleaseRunner, FragileStore]:
        store = FragileStore(folder / "releases.sqlite")
        store.fragile = fragile
        return ReleaseRunner(store, FragileRouter(nodes, fragile), others, others, clock), store

    runner, store = started()
    for _ in range(400):
        try:
            if plan.name not in runner.releases:
                await runner.begin(plan, "ann", "a test")
            await runner.run_once()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except Killed:
            store.close()
            fragile.at = 0
            runner, store = started()
        if plan.name in runner.releases and runner.get(plan.name).state.phase is Phase.PROMOTED:
            break
        clock.now_s += 1
    assert runner.get(plan.name).state.phase is Phase.PROMOTED
    states = [entry.after for entry in store.history(plan.name)]
    store.close()
    # Verdicts come between: when, depends on what was being looked at.
    steps = [step for step, _ in groupby((state.phase, state.step, state.seq) for state in states)]
    return nodes, fragile.points, steps


@pytest.mark.parametrize("plan", [PLAN, PINNED], ids=["plain", "pinned and drained"])
async def test_killed_at_every_point_it_ends_the_same_and_repeats_no_step(tmp_path: Path, plan: Plan) -> None:
    (tmp_path / "0").mkdir()
    nodes, points, steps = await play(tmp_path / "0", plan, 0)
    expected = nodes.told
    assert nodes.shares[-1] == TOTAL
    assert len(expected) == (3 if plan is PLAN else 5), "each share once; pins before, and the end of the draining"
    assert len(points) >= 14
    for at in range(1, len(points) + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        nodes, seen, there = await play(folder, plan, at)
        assert nodes.told == expected, f"killed at {seen[at - 1]}"
        assert there == steps, f"killed at {seen[at - 1]}"


class TestOthers:
    async def test_a_hook_that_disagrees_holds_traffic_up_but_not_the_way_back(self, table: Table) -> None:
        table.others.disagree = "deploys.example: 409"
        await table.runner.begin(replace(PLAN, hooks=Hooks(before=("http://x/",))), "ann", "try")
        await table.turns(5)
        assert table.nodes.told == []
        assert table.runner.get("trade-v2").state.why == "waits for hooks: deploys.example: 409"
        await table.runner.tell("trade-v2", Command.ABORT, "ann", "not today")
        await table.until(Phase.ROLLED_BACK)
        assert table.nodes.shares == [0], "the release's salt, and no weight"

    async def test_hooks_are_asked_once_a_change_and_told_of_each_in_order(self, table: Table) -> None:
        hooks = Hooks(before=("http://x/",), after=("http://y/",))
        await table.runner.begin(replace(PLAN, hooks=hooks), "ann", "try")
        await table.until(Phase.PROMOTED)
        await table.turns(4)
        assert table.others.asked == [1, 2, 3]
        assert table.others.heard == [(1, 100), (2, 5_000), (3, TOTAL)]
        assert table.runner.get("trade-v2").state.hooked == 3

    async def test_a_refusing_node_and_a_sick_target_end_it_without_any_analysis(self, table: Table) -> None:
        await table.runner.begin(PLAN, "ann", "try")
        table.nodes.refusal = "node n1 refuses routes: no"
        with pytest.raises(ReleaseConflict):
            await table.runner.begin(replace(PLAN, name="other"), "ann", "try")
        await table.turns(1)
        table.nodes.refusal = ""
        await table.until(Phase.ROLLED_BACK)
        assert table.runner.get("trade-v2").state.why == "node n1 refuses routes: no"
        await table.runner.tell("trade-v2", Command.RETRY, "ann", "mended")
        await table.until(Phase.HOLDING)
        table.others.sick = "3 requests found no healthy host of v2"
        await table.until(Phase.ROLLED_BACK)
        assert table.nodes.shares[-2:] == [100, 0]

    async def test_what_was_looked_at_before_a_command_does_not_count_after_it(self, table: Table) -> None:
        plan = replace(PLAN, analysis=ANALYSIS, on_failure=OnFailure.FREEZE)
        await table.runner.begin(plan, "ann", "try")
        await table.until(Phase.HOLDING)
        table.others.verdict = Verdict.FAIL
        await table.until(Phase.FROZEN)
        await table.turns(10)
        frozen = [entry for entry in table.store.history("trade-v2") if entry.after.phase is Phase.FROZEN]
        assert len(frozen) == 1, "the same again is no news"
        table.others.looking = lambda: setattr(table.others, "verdict", Verdict.PASS)
        await table.runner.run_once()  # starts to look, and will say that it fails
        await table.runner.tell("trade-v2", Command.RESUME, "ann", "known, and mended")
        await table.turns(3)
        assert table.runner.get("trade-v2").state.phase is Phase.HOLDING
        assert [one.verdict for one in table.runner.findings("trade-v2")] == [Verdict.PASS]

    async def test_one_releases_trouble_does_not_end_the_others_care(self, table: Table) -> None:
        await table.runner.begin(PLAN, "ann", "try")

        def broken(_plan: Plan, _state: State) -> str:
            raise RuntimeError("a bug")

        table.others.unhealthy = broken  # type: ignore[method-assign]
        await table.turns(3)
        assert table.runner.get("trade-v2").state.phase is Phase.APPLYING


class TestConflicts:
    async def test_it_begins_only_where_the_stable_version_has_all_traffic(self, table: Table) -> None:
        table.nodes.now = Traffic({"v1": 9_000, "v2": 1_000})
        with pytest.raises(ReleaseConflict, match="v1 has not all of the traffic"):
            await table.runner.begin(PLAN, "ann", "try")
        with pytest.raises(UnfitPlan, match="service: there is no service nobody"):
            await table.runner.begin(replace(PLAN, service="nobody"), "ann", "try")
        assert table.runner.releases == {}

    async def test_nobody_else_sets_weights_meanwhile(self, table: Table) -> None:
        async with table.runner.nothing_moves("trade"):
            pass
        await table.runner.begin(PLAN, "ann", "try")
        with pytest.raises(ReleaseConflict, match="release trade-v2 of trade is under way"):
            async with table.runner.nothing_moves("trade"):
                raise AssertionError
        async with table.runner.nothing_moves("other"):
            pass

    async def test_undo_only_from_the_weights_that_it_ended_with(self, table: Table) -> None:
        await table.runner.begin(PLAN, "ann", "try")
        await table.until(Phase.PROMOTED)
        table.nodes.now = replace(table.nodes.now, weights={"v1": 5_000, "v2": 5_000})
        with pytest.raises(NotNow, match="were changed since it was promoted"):
            await table.runner.tell("trade-v2", Command.UNDO, "ann", "worse")
        table.nodes.now = replace(table.nodes.now, weights={"v1": 0, "v2": TOTAL})
        await table.runner.tell("trade-v2", Command.UNDO, "ann", "worse")
        await table.until(Phase.ROLLED_BACK)
        assert table.nodes.now.weights == {"v1": TOTAL, "v2": 0}

    async def test_unknown_ones(self, table: Table) -> None:
        with pytest.raises(UnknownRelease):
            await table.runner.tell("nobody", Command.ABORT, "ann", "why")

    async def test_what_it_depends_on(self, table: Table) -> None:
        await table.runner.begin(replace(PLAN, depends_on=(("trade", "v2"),)), "ann", "wait")
        await table.turns(3)
        assert table.runner.get("trade-v2").state.phase is Phase.WAITING
        table.nodes.now = Traffic({"v1": 0, "v2": TOTAL})
        await table.turns(1)
        assert table.runner.get("trade-v2").state.phase is Phase.APPLYING


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "releases.sqlite")


class TestStore:
    def test_a_service_has_one_release_at_a_time(self, store: ReleaseStore) -> None:
        store.begin(Release(PLAN, State()), "ann", "begin", 1)
        with pytest.raises(ReleaseConflict, match="release trade-v2 is under way"):
            store.begin(Release(PLAN, State()), "bob", "again", 2)
        other = replace(PLAN, name="other")
        with pytest.raises(ReleaseConflict, match="release trade-v2 of trade is under way"):
            store.begin(Release(other, State()), "bob", "too", 2)
        store.change("trade-v2", State(), State(phase=Phase.ROLLED_BACK), "ann", "abort", 3)
        store.begin(Release(other, State()), "bob", "now", 4)
        assert [entry.who for entry in store.history("trade-v2")] == ["ann", "ann"]

    def test_a_change_that_was_decided_on_another_state_is_refused(self, store: ReleaseStore) -> None:
        store.begin(Release(PLAN, State()), "ann", "begin", 1)
        store.change("trade-v2", State(), State(phase=Phase.GATED), "ann", "on", 2)
        with pytest.raises(ReleaseConflict, match="was changed meanwhile"):
            store.change("trade-v2", State(), State(phase=Phase.PAUSED), "bob", "late", 3)
        assert store.all()["trade-v2"].state.phase is Phase.GATED

    def test_plans_and_states_come_back_as_they_were(self, store: ReleaseStore) -> None:
        plan = replace(PINNED, kind=Kind.BLUE_GREEN, steps=(Gate(), SetWeight(1), Hold(3)), depends_on=(("x", "v1"),))
        assert decode_plan(encode_plan(plan)) == plan
        state = State(Phase.PAUSED, 2, 50, 1, 7, 6, 5, 100, 3, before=Phase.HOLDING, verdict=Verdict.PASS, why="why")
        store.begin(Release(plan, state), "ann", "begin", 1)
        assert store.all() == {plan.name: Release(plan, state)}


async def test_over_xds_traffic_is_set_audited_and_kept_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    services = (
        "services: [{{name: trade, versions: [{{name: v1, weight: {}, endpoints: [{{address: 10.0.0.1, port: 1}}]}},"
        " {{name: v2, weight: {}, endpoints: [{{address: 10.0.0.2, port: 1}}]}}]}}]\n"
    )
    file.write_text(services.format(100, 0))
    here = ("127.0.0.1", 1)
    settings = GatewaySettings(here, (here,), (here,), "/dev/null")
    weights = WeightStore(tmp_path / "weights.sqlite")
    gateway = Gateway(load_policy([file], {}), weights, settings)
    router = XdsRouter(gateway)
    table = Table(tmp_path, router)
    gateway.keeps = table.runner.needs
    await table.runner.begin(PLAN, "ann", "a test")
    await table.turns(5)
    told = Traffic({"v1": 9_900, "v2": 100}, replace(NO_RULES, salt="s1"))
    assert router.traffic("trade") == told
    assert router.actual("trade") is None, "no Envoy has confirmed anything"
    assert table.runner.get("trade-v2").state.phase is Phase.APPLYING

    version = "{name: v1, weight: 100, endpoints: [{address: 10.0.0.1, port: 1}]}"
    file.write_text(f"services: [{{name: trade, versions: [{version}]}}]\n")
    with pytest.raises(PolicyErrors, match=r"v2 \(1.00%\) has traffic"):
        await gateway.use_policy(load_policy([file], {}))
    file.write_text(services.format(50, 50))
    await gateway.use_policy(load_policy([file], {}))
    assert Gateway(load_policy([file], {}), weights, settings).traffic("trade") == told

    await table.runner.tell("trade-v2", Command.ABORT, "ann", "enough")
    await table.turns(3)
    file.write_text(f"services: [{{name: trade, versions: [{version}]}}]\n")
    with pytest.raises(PolicyErrors, match="release trade-v2 is under way, and needs v2"):
        await gateway.use_policy(load_policy([file], {}))
    assert router.traffic("trade") == replace(told, weights={"v1": TOTAL, "v2": 0})
    weights.close()
    table.store.close()
    assert table.runner.get("trade-v2").state.phase not in OVER
