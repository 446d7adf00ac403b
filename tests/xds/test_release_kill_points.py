"""The control plane's own process killed at every point of a release, and started again: the table of kill points.

A soak (some seconds a point): `./test.sh -m soak tests/xds/test_release_kill_points.py`. In one process, with the same
points, tests/unit/control_plane/test_release_runner.py does it in every run; with Envoy under traffic,
tests/data_plane/test_releases.py does in each phase.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from control_plane.admin import admin_pb2, admin_pb2_grpc
from control_plane.releases import releases_pb2 as pb
from control_plane.releases import releases_pb2_grpc
from paymesh.cli.stack.ports import Ports
from tests.xds.simulated_node import SimulatedNode

pytestmark = [pytest.mark.soak, pytest.mark.asyncio]
REPOSITORY = Path(__file__).resolve().parents[2]
POLICY = """
merchants: [{id: m1, credentials: [{scheme: hmac, key_id: m1, secret: {file: m1.key}}]}]
services:
  - name: trade
    versions:
      - {name: v1, weight: 100, endpoints: [{address: 10.0.0.1, port: 1}]}
      - {name: v2, weight: 0, endpoints: [{address: 10.0.0.2, port: 1}]}
routes: [{name: other, match: {prefix: /}, operation: other, service: trade}]
"""
DOCUMENT = """
release: killed
service: trade
stable: v1
target: v2
test_merchants: [m1]
steps: [{weight: 10}, {hold: 1s}, {weight: 50}, {hold: 1s}]
drain: 1s
"""


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = Ports.random()
        (folder / "policy.yaml").write_text(POLICY)
        (folder / "m1.key").write_text("a throw-away secret of m1, 32 bytes")

    async def start(self, die_at: int) -> asyncio.subprocess.Process:
        flags = ("--policy", "policy.yaml", "--listen", self.ports.address("xds"), "--state", "data", "--unvalidated")
        admin = ("--admin-listen", self.ports.address("admin"))
        command = ("-m", "tests.xds.dying_control_plane", str(die_at), "points", *flags, *admin)
        with (self.folder / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdout=log,
                stderr=log,
            )

    @contextlib.asynccontextmanager
    async def node(self) -> AsyncIterator[None]:
        """An Envoy that connects again whenever its control plane is back."""

        async def connecting() -> None:
            while True:
                node = SimulatedNode(self.ports.address("xds"), "n1")
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await node._run()
                await asyncio.sleep(0.1)

        task = asyncio.create_task(connecting())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def points(self) -> list[str]:
        return (self.folder / "points").read_text().splitlines()


@contextlib.contextmanager
def while_it_is_away() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
            raise


async def play(folder: Path, die_at: int) -> tuple[list[str], list[tuple[str, int, int]], list[int]]:
    """Points passed; phase, step and weight of each change of state; the versions' weights, as the
    node has them."""
    folder.mkdir()
    site = Site(folder)
    process = await site.start(die_at)
    try:
        async with site.node(), asyncio.timeout(60):
            begun = False
            while True:
                if process.returncode is not None:
                    process = await site.start(0)
                with while_it_is_away():
                    async with grpc.aio.insecure_channel(site.ports.address("admin")) as channel:
                        releases = releases_pb2_grpc.ReleasesStub(channel)
                        if not begun:
                            known = await releases.List(pb.ListRequest(), timeout=2)
                            if not known.releases:
                                apply = pb.ApplyRequest(file_name="r.yaml", text=DOCUMENT, reason="soak", actor="ann")
                                await releases.Apply(apply, timeout=2)
                            begun = True
                        phase = (await releases.Get(pb.GetRequest(name="killed"), timeout=2)).phase
                        status = await admin_pb2_grpc.AdminStub(channel).Status(admin_pb2.StatusRequest(), timeout=2)
                        (service,) = status.services
                        # After the last point the node has to come back, too.
                        if phase == "promoted" and all(one.HasField("actual_weight") for one in service.versions):
                            entries = (await releases.History(pb.HistoryRequest(name="killed"), timeout=2)).entries
                            steps = [(one.phase, one.step, one.set_weight) for one in entries]
                            return site.points(), steps, [one.actual_weight for one in service.versions]
                await asyncio.sleep(0.05)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_killed_at_every_point_it_ends_the_same_and_repeats_no_step(tmp_path: Path) -> None:
    points, expected, ended = await play(tmp_path / "0", 0)
    assert ended == [0, 10_000]
    assert len(points) >= 20
    for at in range(1, len(points) + 1):
        seen, steps, ended = await play(tmp_path / str(at), at)
        print(f"{at:>3}  {seen[at - 1]:<60} steps repeated: {len(steps) - len(set(steps))}")
        assert steps == expected, f"killed at {seen[at - 1]}"
        assert ended == [0, 10_000]
