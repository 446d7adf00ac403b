"""Weights: what may be set, what survives, when a policy may not take over, and the admin API's answers."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.admin import admin_pb2, admin_pb2_grpc
from control_plane.admin.service import Admin
from control_plane.discovery.follow import Discovery
from control_plane.gateway import Gateway
from control_plane.settings import GatewaySettings
from control_plane.weights import InvalidWeights, WeightStore, checked_weights, conflicts, effective_weights
from paymesh.cli.main import main
from paymesh.cli.set_weight import parse_weights
from paymesh.payments.policy.compiled import Endpoint, Policy, Service, ServiceVersion
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.policy.source import PolicySource
from paymesh.payments.policy.upstreams import Upstream

SETTINGS = GatewaySettings(("127.0.0.1", 8080), (("127.0.0.1", 9001),), (("127.0.0.1", 9002),), "/dev/stdout")


def write(folder: Path, **services: Mapping[str, int]) -> Path:
    """A policy file with these services, weights in percent."""
    lines = []
    for name, versions in services.items():
        lines.append(f"  - name: {name}\n    versions:")
        for version, weight in versions.items():
            endpoint = "endpoints: [{address: 127.0.0.1, port: 1}]"
            lines.append(f"      - {{name: {version}, weight: {weight}, {endpoint}}}")
    file = folder / "policy.yaml"
    file.write_text("services:\n" + "\n".join(lines) + "\n" if lines else "services: []\n")
    return file


@pytest.fixture
def policy(tmp_path: Path) -> Any:
    def make(**services: Mapping[str, int]) -> Policy:
        return load_policy([write(tmp_path, **services)], {})

    return make


@pytest.fixture
def trade(policy: Any) -> Service:
    return policy(trade={"v1": 90, "v2": 10}).services["trade"]


# -- what may be set ---------------------------------------------------------------------------------------------


def test_weights_are_kept_in_the_order_of_the_policy_and_absent_ones_are_zero(trade: Service) -> None:
    assert list(checked_weights(trade, {"v2": 1, "v1": 9999}).items()) == [("v1", 9999), ("v2", 1)]
    assert checked_weights(trade, {"v2": 10_000}) == {"v1": 0, "v2": 10_000}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"v1": 9999}, "add up to 99.99 percent"),
        ({"v1": 5000, "v2": 5001}, "add up to 100.01 percent"),
        ({}, "add up to 0.00 percent"),
        ({"v1": 10_001, "v2": -1}, "never negative"),
        ({"v1": 9000, "v3": 1000}, "no version v3 .it has: v1, v2"),
    ],
)
def test_other_weights_are_refused_with_the_reason(trade: Service, given: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidWeights, match=message):
        checked_weights(trade, given)


@given(st.dictionaries(st.sampled_from(["v1", "v2", "v3"]), st.integers(-5, 10_005)))
def test_what_is_accepted_always_adds_up(weights: dict[str, int]) -> None:
    service = _service()
    try:
        checked = checked_weights(service, weights)
    except InvalidWeights:
        return
    assert sum(checked.values()) == 10_000
    assert min(checked.values()) >= 0
    assert list(checked) == ["v1", "v2"]
    assert {name: weight for name, weight in checked.items() if weight} == {k: v for k, v in weights.items() if v}


def _service() -> Service:
    endpoint = (Endpoint("127.0.0.1", 1),)
    return Service(
        "trade", (ServiceVersion("v1", endpoint, 9000), ServiceVersion("v2", endpoint, 1000)), Upstream(1000)
    )


# -- recorded weights and the policy -----------------------------------------------------------------------------


def test_recorded_weights_win_over_the_policys(policy: Any) -> None:
    now = policy(trade={"v1": 90, "v2": 10}, card={"v1": 100})
    assert effective_weights(now, {}) == {"trade": {"v1": 9000, "v2": 1000}, "card": {"v1": 10_000}}
    recorded = {"trade": {"v1": 0, "v2": 10_000}}
    assert effective_weights(now, recorded)["trade"] == {"v1": 0, "v2": 10_000}
    assert conflicts(now, recorded) == []


def test_weights_of_another_set_of_versions_are_the_policys(policy: Any) -> None:
    now = policy(trade={"v0": 0, "v1": 50, "v2": 50})
    assert effective_weights(now, {"trade": {"v1": 5000, "v2": 5000}})["trade"] == {"v0": 0, "v1": 5000, "v2": 5000}


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({"v1": 100}, "version v2 (2.50%) has traffic by set-weight"),
        ({"v2": 10, "v1": 90}, "reordered"),
        ({"v1": 90, "v2": 10, "v3": 0}, "make them equal to those in force: v1 97.5, v2 2.5"),
    ],
)
def test_a_policy_that_would_move_traffic_nobody_moved_conflicts(
    policy: Any, versions: dict[str, int], message: str
) -> None:
    (found,) = conflicts(policy(trade=versions), {"trade": {"v1": 9750, "v2": 250}})
    assert found.startswith("service trade: ")
    assert message in found


def test_a_whole_service_may_go_and_moves_nobody(policy: Any) -> None:
    assert conflicts(policy(), {"trade": {"v1": 9_000, "v2": 1_000}}) == []


@pytest.mark.parametrize(
    "versions", [{"v1": 100}, {"v1": 100, "v3": 0}, {"v3": 0, "v1": 100, "v2": 0}], ids=["dropped", "swapped", "added"]
)
def test_versions_without_traffic_come_and_go(policy: Any, versions: dict[str, int]) -> None:
    assert conflicts(policy(trade=versions), {"trade": {"v1": 10_000, "v2": 0}}) == []


# -- the store ---------------------------------------------------------------------------------------------------


def test_what_was_recorded_is_there_after_reopening(tmp_path: Path, trade: Service) -> None:
    file = tmp_path / "new" / "weights.sqlite"
    store = WeightStore(file)
    assert store.recorded() == {}
    before = {"v1": 9000, "v2": 1000}
    change = store.record(trade, {"v1": 5000, "v2": 5000}, before, "ann", "canary looks good")
    assert (change.service, change.actor, change.reason) == ("trade", "ann", "canary looks good")
    store.record(trade, {"v2": 10_000}, change.after, "ben", "done")
    # Not closed: a killed process closes nothing.
    again = WeightStore(file)
    assert again.recorded() == {"trade": {"v1": 0, "v2": 10_000}}
    assert list(again.recorded()["trade"]) == ["v1", "v2"], "their order is what merchants stick to"
    again.close()
    store.close()


def test_every_change_stays_as_audit(tmp_path: Path, trade: Service) -> None:
    store = WeightStore(tmp_path / "weights.sqlite")
    store.record(trade, {"v1": 10_000}, {"v1": 9000, "v2": 1000}, "ann", "errors on v2")
    store.record(trade, {"v1": 9900, "v2": 100}, {"v1": 10_000, "v2": 0}, "ben", "again")
    store.close()
    database = sqlite3.connect(tmp_path / "weights.sqlite")
    rows = database.execute("SELECT actor, reason, before, after FROM weight_changes ORDER BY id").fetchall()
    database.close()
    assert rows[0] == ("ann", "errors on v2", '{"v1": 9000, "v2": 1000}', '{"v1": 10000, "v2": 0}')
    assert rows[1][:2] == ("ben", "again")


@pytest.mark.parametrize(("given", "reason"), [({"v1": 10_000}, " \n"), ({"v1": 1}, "a reason")])
def test_what_is_refused_is_not_recorded(tmp_path: Path, trade: Service, given: dict[str, int], reason: str) -> None:
    store = WeightStore(tmp_path / "weights.sqlite")
    with pytest.raises(InvalidWeights):
        store.record(trade, given, {}, "ann", reason)
    assert store.recorded() == {}
    store.close()


# -- percentages -------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True), st.integers(0, 99_999), min_size=1))
def test_percentages_are_read_exactly(weights: dict[str, int]) -> None:
    texts = [f"{version}={weight // 100}.{weight % 100:02}" for version, weight in weights.items()]
    assert parse_weights(texts) == weights


@given(st.integers(0, 999), st.integers(0, 9))
def test_shorter_percentages_mean_the_same(whole: int, tenth: int) -> None:
    assert parse_weights([f"v1={whole}", f"v2={whole}.{tenth}"]) == {"v1": whole * 100, "v2": whole * 100 + tenth * 10}


@given(st.text(max_size=12))
def test_any_other_text_is_a_value_error(text: str) -> None:
    try:
        weights = parse_weights([text])
    except ValueError:
        return
    ((version, weight),) = weights.items()
    assert text.startswith(f"{version}=")
    assert 0 <= weight < 100_000


@pytest.mark.parametrize(
    "text", ["v1", "=5", "v1=", "v1=-1", "v1=0.255", "v1=1e2", "v1=.5", "v1=5.", "v1= 5", "v1=٥", "v1=1000", "v1=5%"]
)
def test_no_guessing_what_a_percentage_was_meant_to_be(text: str) -> None:
    with pytest.raises(ValueError, match="not VERSION=PERCENT"):
        parse_weights([text])


def test_a_version_is_named_once() -> None:
    with pytest.raises(ValueError, match="v1 is named twice"):
        parse_weights(["v1=50", "v1=50"])


# -- the gateway and the admin API -------------------------------------------------------------------------------


class Running:
    """A gateway with its admin API in this process."""

    def __init__(self, gateway: Gateway, source: PolicySource, stub: Any, address: str, file: Path) -> None:
        self.gateway, self.source, self.stub, self.address, self.file = gateway, source, stub, address, file

    async def set(self, service: str = "trade", reason: str = "a test", actor: str = "ann", **weights: int) -> Any:
        request = admin_pb2.SetWeightRequest(service=service, weights=weights, reason=reason, actor=actor)
        return await self.stub.SetWeight(request, timeout=10)

    async def status(self) -> Any:
        return await self.stub.Status(admin_pb2.StatusRequest(), timeout=10)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    file = write(tmp_path, trade={"v1": 90, "v2": 10}, card={"v1": 100})
    source = PolicySource([file], {})
    store = WeightStore(tmp_path / "weights.sqlite")
    gateway = Gateway(source.current, store, SETTINGS)
    server = grpc.aio.server()
    admin_pb2_grpc.add_AdminServicer_to_server(
        Admin(gateway, source, Discovery(gateway, []), lambda _: nullcontext()), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        yield Running(gateway, source, stub, f"127.0.0.1:{port}", file)
    await server.stop(None)
    store.close()


async def test_set_weight_answers_before_and_after_and_publishes(running: Running) -> None:
    published = running.gateway.fleet.newest.common
    answer = await running.set(v1=7525, v2=2475)
    assert [(item.version, item.weight) for item in answer.before] == [("v1", 9000), ("v2", 1000)]
    assert [(item.version, item.weight) for item in answer.after] == [("v1", 7525), ("v2", 2475)]
    assert running.gateway.fleet.newest.common is not published
    assert running.gateway.weights["trade"] == {"v1": 7525, "v2": 2475}
    status = await running.status()
    (trade,) = [item for item in status.services if item.service == "trade"]
    assert [(v.version, v.set_weight, v.HasField("actual_weight")) for v in trade.versions] == [
        ("v1", 7525, False),
        ("v2", 2475, False),
    ]
    assert list(status.nodes) == []
    assert status.policy_version == running.source.current.version


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ({"service": "nobody", "v1": 10_000}, "NOT_FOUND", "no service nobody (known: card, trade)"),
        ({"v1": 1, "v2": 1}, "INVALID_ARGUMENT", "the weights add up to 0.02 percent, not to 100"),
        ({"v9": 10_000}, "INVALID_ARGUMENT", "trade has no version v9 (it has: v1, v2)"),
        ({"reason": "  ", "v1": 10_000}, "INVALID_ARGUMENT", "a reason is required: it is what the audit shows"),
        ({"reason": "x" * 1001, "v1": 10_000}, "INVALID_ARGUMENT", "reason and actor take 1000 characters"),
        ({"actor": "x" * 1001, "v1": 10_000}, "INVALID_ARGUMENT", "reason and actor take 1000 characters"),
    ],
)
async def test_a_refused_set_weight_says_why_and_changes_nothing(
    running: Running, given: dict[str, Any], code: str, message: str
) -> None:
    published = running.gateway.fleet.newest.common
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await running.set(**given)
    assert (error.value.code().name, error.value.details()) == (code, message)
    assert running.gateway.fleet.newest.common is published


async def test_concurrent_changes_happen_one_after_the_other(running: Running) -> None:
    answers = await asyncio.gather(*(running.set(v1=10_000 - n, v2=n) for n in range(10)))
    changes = {answer.before[1].weight: answer.after[1].weight for answer in answers}
    assert len(changes) == 10, "each one saw another one's result"
    weight = 1000
    for _ in range(10):
        weight = changes[weight]
    assert running.gateway.weights["trade"]["v2"] == weight


async def test_a_caller_that_gives_up_leaves_nothing_half_done(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()
    record = WeightStore.record

    def slow(*arguments: Any) -> Any:
        entered.set()
        go.wait(10)
        return record(*arguments)

    monkeypatch.setattr(WeightStore, "record", slow)
    call = asyncio.ensure_future(running.gateway.set_weights("trade", {"v1": 10_000}, "ann", "gave up"))
    await asyncio.to_thread(entered.wait, 10)
    call.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    await running.gateway.use_policy(running.source.current)  # waits its turn
    assert running.gateway.weights["trade"] == {"v1": 10_000, "v2": 0}


async def test_a_policy_that_drops_traffic_is_refused_and_shown(running: Running, tmp_path: Path) -> None:
    await running.set(v1=5000, v2=5000)
    write(tmp_path, trade={"v1": 100}, card={"v1": 100})
    assert await running.source.poll(running.gateway.use_policy) is False
    status = await running.status()
    (problem,) = status.policy_problems
    assert "version v2 (50.00%) has traffic by set-weight" in problem
    assert running.gateway.weights["trade"] == {"v1": 5000, "v2": 5000}
    await running.set(v1=10_000)
    # The refused files have not changed since: they are read again after they do.
    write(tmp_path, trade={"v1": 100}, card={"v1": 100}, other={"v1": 100})
    assert await running.source.poll(running.gateway.use_policy) is True
    assert running.gateway.weights["trade"] == {"v1": 10_000}
    assert list((await running.status()).policy_problems) == []


def test_a_start_with_a_policy_that_drops_traffic_is_refused(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "weights.sqlite")
    store.record(_service(), {"v1": 1, "v2": 9999}, {}, "ann", "a test")
    with pytest.raises(PolicyErrors, match="has traffic by set-weight"):
        Gateway(load_policy([write(tmp_path, trade={"v1": 100})], {}), store, SETTINGS)
    store.close()


# -- the command line --------------------------------------------------------------------------------------------


@pytest.fixture
def nobody() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_status_and_set_weight_say_that_nobody_answers(nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["status"], ["set-weight", "trade", "v1=100", "--reason", "a test"]):
        assert main([*arguments, "--admin", nobody]) == 2
        printed = capsys.readouterr()
        assert printed.err == f"no control plane answers on {nobody} (--admin names another address)\n"
        assert printed.out == ""


def test_a_user_without_a_name_can_use_the_command(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run as any number; the default of --actor is asked for by every command."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert main(["status", "--admin", nobody]) == 2


def test_set_weight_says_what_is_wrong_with_the_percentages(nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["set-weight", "trade", "v1=0.255", "--reason", "a test", "--admin", nobody]) == 2
    assert "'v1=0.255' is not VERSION=PERCENT" in capsys.readouterr().err


async def test_the_command_line_prints_the_split_and_the_refusal(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(*arguments: str) -> int:
        return await asyncio.to_thread(main, [*arguments, "--admin", running.address])

    assert await run("set-weight", "trade", "v2=100", "--reason", "a test", "--wait", "0") == 0
    assert capsys.readouterr().out == "trade: v1=90.00% v2=10.00% -> v1=0.00% v2=100.00%\n"
    assert await run("set-weight", "trade", "v2=99", "--reason", "a test") == 2
    assert capsys.readouterr().err == "the weights add up to 99.00 percent, not to 100\n"
    assert await run("set-weight", "trade", "v1=100", "--reason", "a test", "--wait", "1") == 1
    assert "recorded, but not confirmed" in capsys.readouterr().err, "no node is connected"
    assert await run("status") == 0
    printed = capsys.readouterr().out
    assert "(none connected)" in printed
    assert "trade                v1         100.00%     unknown" in printed
    assert await run("status", "-o", "json") == 0
    assert '"set_weight": 10000' in capsys.readouterr().out
