"""What a release may expect of whatever splits the traffic. Each router brings a rig; the suite is one for all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import grpc
import pytest
import pytest_asyncio

from control_plane.gateway import Gateway
from control_plane.releases.runner import Router
from control_plane.releases.xds_router import XdsRouter
from control_plane.settings import GatewaySettings
from control_plane.weights import WeightStore
from control_plane.xds.server import AggregatedDiscovery
from paymesh.payments.policy.forwarding import Fault
from paymesh.payments.policy.load import load_policy
from paymesh.payments.releases.traffic import NO_RULES, TOTAL, Pin, Rules, Traffic
from tests.xds.simulated_node import SimulatedNode

pytestmark = pytest.mark.asyncio
START = Traffic({"v1": TOTAL, "v2": 0})
CANARY = Traffic({"v1": 9_999, "v2": 1}, replace(NO_RULES, salt="s1"))
EVERYTHING = Traffic(
    {"v1": 5_000, "v2": 5_000},
    Rules(
        salt="s1",
        pins=(
            Pin("merchant", "", "m-1", "v2"),
            Pin("merchant", "", "m.2", "v2"),
            Pin("header", "x-try", "a b", "v2"),
            Pin("cookie", "trial", "on", "v2"),
        ),
        orders_stay=("v1", "v2"),
        mirror=("v2", 100),
        fault=("v2", Fault(None, 0, 503, 1_000)),
    ),
)
POLICY = """
gateway: {allow_fault_injection: true}
services:
  - name: trade
    versions:
      - {name: v1, weight: 100, endpoints: [{address: 10.0.0.1, port: 1}]}
      - {name: v2, weight: 0, endpoints: [{address: 10.0.0.2, port: 1}]}
routes:
  - {name: query, match: {prefix: /q}, operation: other, service: trade, safe_to_repeat: true}
"""


class Rig(Protocol):
    """A router, its nodes, and its restart."""

    router: Router

    async def connect(self) -> None: ...

    async def refuse(self, why: str | None) -> None:
        """From now on the nodes refuse what comes; None: no longer."""
        ...

    async def restarted(self) -> Router:
        """As after a death of the process: another one over what is on disk."""
        ...


@dataclass
class XdsRig:
    folder: Path
    stack: contextlib.AsyncExitStack
    refusal: str | None = None

    async def start(self) -> XdsRig:
        file = self.folder / "policy.yaml"
        file.write_text(POLICY)
        here = ("127.0.0.1", 1)
        weights = self.stack.enter_context(contextlib.closing(WeightStore(self.folder / "weights.sqlite")))
        gateway = Gateway(load_policy([file], {}), weights, GatewaySettings(here, (here,), (here,), "/dev/null"))
        server = grpc.aio.server()
        xds = AggregatedDiscovery(gateway.fleet, lambda _type, _ok: None, asyncio.Event())
        server.add_generic_rpc_handlers((xds.handlers(),))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        self.stack.push_async_callback(server.stop, 0)
        self.router: Router = XdsRouter(gateway)
        return self

    async def connect(self) -> None:
        node = SimulatedNode(self.address, "n1", refuse=lambda _type, _version: self.refusal)
        await self.stack.enter_async_context(node.running())

    async def refuse(self, why: str | None) -> None:
        self.refusal = why

    async def restarted(self) -> Router:
        return (await XdsRig(self.folder, self.stack).start()).router


@pytest_asyncio.fixture(params=[XdsRig], ids=["xds"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with contextlib.AsyncExitStack() as stack:
        yield await request.param(tmp_path, stack).start()


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0.02)


async def test_versions_stand_in_their_order_and_nobody_is_none(rig: Rig) -> None:
    assert rig.router.versions("trade") == ("v1", "v2")
    assert rig.router.versions("nobody") is None
    assert rig.router.traffic("nobody") is None
    assert rig.router.actual("nobody") is None
    assert rig.router.traffic("trade") == START


@pytest.mark.parametrize("wanted", [CANARY, EVERYTHING], ids=["canary", "everything"])
async def test_actual_only_when_the_nodes_have_it(rig: Rig, wanted: Traffic) -> None:
    await rig.router.apply("trade", wanted, "release r", "a step")
    assert rig.router.traffic("trade") == wanted
    assert rig.router.actual("trade") is None, "there is no node"
    await rig.connect()
    await until(lambda: rig.router.actual("trade") == wanted)
    back = replace(wanted, weights=START.weights)
    await rig.router.apply("trade", back, "release r", "back")
    await until(lambda: rig.router.actual("trade") == back)


async def test_the_same_again_is_harmless(rig: Rig) -> None:
    await rig.connect()
    for _ in range(3):
        await rig.router.apply("trade", CANARY, "release r", "a step")
    await until(lambda: rig.router.actual("trade") == CANARY)
    assert rig.router.refused("trade") == ""


async def test_a_refusal_is_told_until_something_else_is_applied(rig: Rig) -> None:
    await rig.connect()
    await until(lambda: rig.router.actual("trade") == START)
    await rig.refuse("no such thing")
    await rig.router.apply("trade", CANARY, "release r", "a step")
    await until(lambda: "no such thing" in rig.router.refused("trade"))
    assert rig.router.traffic("trade") == CANARY
    assert rig.router.actual("trade") != CANARY
    await rig.refuse(None)
    await rig.router.apply("trade", START, "release r", "back")
    await until(lambda: rig.router.actual("trade") == START)
    assert rig.router.refused("trade") == ""


async def test_a_death_loses_nothing(rig: Rig) -> None:
    await rig.router.apply("trade", EVERYTHING, "release r", "a step")
    assert (await rig.restarted()).traffic("trade") == EVERYTHING
