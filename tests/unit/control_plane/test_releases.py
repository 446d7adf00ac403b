"""Releases on disk and carried out: killed at every point and started again, they end the same and repeat no step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from control_plane.gateway import Gateway
from control_plane.releases.runner import NotNow, ReleaseConflict, ReleaseRunner, Router
from control_plane.releases.store import Release, ReleaseStore
from control_plane.releases.xds_router import XdsRouter
from control_plane.settings import GatewaySettings
from control_plane.weights import WeightStore
from paymesh.payments.policy.load import load_policy
from paymesh.payments.releases.codec import decode_plan, encode_plan
from paymesh.payments.releases.plan import Gate, Hold, Kind, Plan, SetWeight, Weights
from paymesh.payments.releases.state import Command, Judged, Phase, State, Verdict

PLAN = Plan(
    name="trade-v2",
    service="trade",
    kind=Kind.CANARY,
    stable="v1",
    target="v2",
    steps=(SetWeight(100), Hold(10), SetWeight(5_000), Hold(10)),
)
EXPECTED = [100, 5_000, 10_000]
"""What v2 is given, in this order, each once."""


class Killed(Exception):  # noqa: N818 - it is no error
    """The process ends here."""


class Nodes:
    """A router that keeps what it was told over deaths of the process, as SQLite and Envoys do; confirmed at once."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.weights: dict[str, int] = {"v1": 10_000, "v2": 0}

    def versions(self, service: str) -> tuple[str, ...] | None:
        return ("v1", "v2") if service == "trade" else None

    def set_weights(self, _service: str) -> Weights:
        return self.weights

    def actual_weights(self, _service: str) -> Mapping[str, int] | None:
        return self.weights

    async def apply(self, _service: str, weights: Weights, _who: str, _why: str) -> None:
        self.weights = dict(weights)
        self.told.append(weights["v2"])


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


class FragileRouter:
    def __init__(self, nodes: Nodes, fragile: Fragile) -> None:
        self._nodes, self._fragile = nodes, fragile
        self.versions, self.set_weights = nodes.versions, nodes.set_weights
        self.actual_weights = nodes.actual_weights

    async def apply(self, service: str, weights: Weights, who: str, why: str) -> None:
        self._fragile.point(f"before weights {weights['v2']}")
        await self._nodes.apply(service, weights, who, why)
        self._fragile.point(f"after weights {weights['v2']}")


class Clock:
    now_s = 1_000

    def __call__(self) -> int:
        return self.now_s


async def nothing_new(_plan: Plan, _state: State) -> Judged | None:
    return None


async def ready(_service: str, _version: str) -> bool:
    return True


def runner_of(folder: Path, nodes: Router, clock: Clock, fragile: Fragile) -> tuple[ReleaseRunner, FragileStore]:
    store = FragileStore(folder / "releases.sqlite")
    store.fragile = fragile
    return ReleaseRunner(store, nodes, nothing_new, ready, clock), store


async def play(folder: Path, die_at: int) -> tuple[Nodes, list[str]]:
    """The whole release, with one death at this point (0: none); what the nodes were told, and the points passed."""
    nodes, clock, fragile = Nodes(), Clock(), Fragile(die_at)
    runner, store = runner_of(folder, FragileRouter(nodes, fragile), clock, fragile)
    begun = False
    for _ in range(200):
        try:
            if not begun:
                if PLAN.name not in store.all():
                    await runner.begin(PLAN, "ann", "a test")
                begun = True
            await runner.run_once()
        except Killed:
            store.close()
            fragile.at = 0
            runner, store = runner_of(folder, FragileRouter(nodes, fragile), clock, fragile)
            begun = PLAN.name in store.all()
        if begun and store.all()[PLAN.name].state.phase is Phase.PROMOTED:
            break
        clock.now_s += 1
    assert store.all()[PLAN.name].state.phase is Phase.PROMOTED
    store.close()
    return nodes, fragile.points


async def test_killed_at_every_point_it_ends_the_same_and_repeats_no_step(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    nodes, points = await play(tmp_path / "0", 0)
    assert nodes.told == EXPECTED
    assert len(points) >= 14
    for at in range(1, len(points) + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        nodes, seen = await play(folder, at)
        assert nodes.told == EXPECTED, f"killed at {seen[at - 1]}"


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "releases.sqlite")


def test_a_service_has_one_release_at_a_time(store: ReleaseStore) -> None:
    store.begin(Release(PLAN, State()), "ann", "begin", 1)
    with pytest.raises(ReleaseConflict, match="release trade-v2 is under way"):
        store.begin(Release(PLAN, State()), "bob", "again", 2)
    other = Plan("other", "trade", Kind.CANARY, "v1", "v2", (SetWeight(1),))
    with pytest.raises(ReleaseConflict, match="release trade-v2 of trade is under way"):
        store.begin(Release(other, State()), "bob", "too", 2)
    store.change("trade-v2", State(), State(phase=Phase.ROLLED_BACK), "ann", "abort", 3)
    store.begin(Release(other, State()), "bob", "now", 4)
    assert [entry.who for entry in store.history("trade-v2")] == ["ann", "ann"]


def test_a_change_that_was_decided_on_another_state_is_refused(store: ReleaseStore) -> None:
    store.begin(Release(PLAN, State()), "ann", "begin", 1)
    store.change("trade-v2", State(), State(phase=Phase.GATED), "ann", "on", 2)
    with pytest.raises(ReleaseConflict, match="was changed meanwhile"):
        store.change("trade-v2", State(), State(phase=Phase.PAUSED), "bob", "late", 3)
    assert store.all()["trade-v2"].state.phase is Phase.GATED


def test_plans_and_states_come_back_as_they_were(store: ReleaseStore) -> None:
    plan = Plan("p", "s", Kind.BLUE_GREEN, "v1", "v2", (Gate(), SetWeight(1), Hold(3)), True, depends_on=(("x", "v1"),))
    assert decode_plan(encode_plan(plan)) == plan
    state = State(Phase.PAUSED, 2, 50, 7, 100, 3, Phase.HOLDING, Verdict.PASS, "why")
    store.begin(Release(plan, state), "ann", "begin", 1)
    assert store.all() == {"p": Release(plan, state)}


async def test_over_xds_weights_are_set_and_audited(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        "services: [{name: trade, versions: [{name: v1, weight: 100, endpoints: [{address: 10.0.0.1, port: 1}]},"
        " {name: v2, weight: 0, endpoints: [{address: 10.0.0.2, port: 1}]}]}]\n"
    )
    here = ("127.0.0.1", 1)
    weights = WeightStore(tmp_path / "weights.sqlite")
    gateway = Gateway(load_policy([file], {}), weights, GatewaySettings(here, (here,), (here,), "/dev/null"))
    router = XdsRouter(gateway)
    assert router.versions("trade") == ("v1", "v2")
    assert router.versions("nobody") is None
    runner, store = runner_of(tmp_path, router, Clock(), Fragile(0))
    await runner.begin(PLAN, "ann", "a test")
    for _ in range(5):
        await runner.run_once()
    assert router.set_weights("trade") == {"v1": 9_900, "v2": 100}
    assert router.actual_weights("trade") is None, "no Envoy has confirmed anything"
    assert store.all()["trade-v2"].state.phase is Phase.APPLYING
    await runner.tell("trade-v2", Command.ABORT, "ann", "enough")
    for _ in range(3):
        await runner.run_once()
    assert router.set_weights("trade") == {"v1": 10_000, "v2": 0}
    with pytest.raises(NotNow):
        await runner.tell("trade-v2", Command.ABORT, "ann", "again")
    weights.close()
    store.close()
