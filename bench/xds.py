"""Owns one measurement: from a change to the acknowledgement of every node, by how many nodes there are.

    python -m bench.xds

1,000 clusters of 10 endpoints, 5,000 routes, in the real control plane (a process of its own, without Envoy's
validation, which is timed apart). Nodes are simulated: as many streams as there are nodes, from a few client processes,
each acknowledging what it gets as Envoy does, on the same machine. A weight change is one of the 5,000 routes' service;
an endpoint change is one host among 10,000. "first" is when the first node has it, "all" when the last has.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from control_plane.admin import admin_pb2, admin_pb2_grpc
from control_plane.resources.names import ENDPOINT_TYPE, ROUTE_TYPE
from control_plane.settings import GatewaySettings
from control_plane.weights import effective_weights
from control_plane.xds.snapshot import build_snapshot
from control_plane.xds.validation import Validator
from paymesh.cli.stack.ports import Ports
from paymesh.payments.policy.load import load_policy
from paymesh.server.envoy_binary import find_envoy
from tests.xds.simulated_node import SimulatedNode

CLUSTERS, ENDPOINTS, ROUTES = 1_000, 10, 5_000
LISTED = "s0"
"""The service whose endpoints stand in a file, so that they can change."""


def main() -> int:
    """Print one line a number of nodes, protocol and kind of change. Exit code 1: a node did not get a change."""
    parser = argparse.ArgumentParser(prog="bench.xds", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 100, 1_000], help="(default: %(default)s)")
    parser.add_argument("--changes", type=int, default=5, help="of each kind (default: %(default)s)")
    parser.add_argument("--client", nargs=4, metavar=("ADDRESS", "FIRST", "COUNT", "DELTA"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client is not None:
        address, first, count, delta = args.client
        return asyncio.run(_clients(address, int(first), int(count), delta == "delta"))
    _raise_file_limit()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; "
          f"{CLUSTERS} clusters x {ENDPOINTS} endpoints, {ROUTES} routes")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        _time_building(Path(folder))
        print(f"{'nodes':>6} {'protocol':<6} {'change':<9}{'first ms':>10}{'all ms, median':>16}{'worst':>8}"
              f"{'CPU ms':>9}{'MiB':>7}")  # fmt: skip
        for count in args.nodes:
            for delta in (False, True):
                asyncio.run(_measure(Path(folder), count, delta, args.changes))
    return 0


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _time_building(folder: Path) -> None:
    file = _write_policy(folder)
    began = time.perf_counter()
    policy = load_policy([file], {})
    loaded = time.perf_counter()
    here = ("127.0.0.1", 1)
    settings = GatewaySettings(here, (here,), (here,), "/dev/null")
    snapshot = build_snapshot(policy, effective_weights(policy, {}), settings)
    built = time.perf_counter()
    Validator(find_envoy()).check(snapshot)
    asked = time.perf_counter()
    size = sum(len(data) for found in snapshot.resources.values() for data in found.values())
    print(
        f"policy loaded in {loaded - began:.2f} s, built at first in {built - loaded:.2f} s"
        f" ({size / 2**20:.1f} MiB), envoy --mode validate {asked - built:.2f} s"
    )


def _write_policy(folder: Path) -> Path:
    def hosts(number: int) -> list[dict[str, object]]:
        return [{"address": f"10.{number // 250}.{number % 250}.{host + 1}", "port": 80} for host in range(ENDPOINTS)]

    services: list[dict[str, object]] = [
        {"name": f"s{number}", "versions": [{"name": "v1", "endpoints": hosts(number)}]} for number in range(CLUSTERS)
    ]
    services[0]["versions"] = [{"name": "v1", "endpoints_file": "listed.hosts"}]
    services[1]["versions"] = [
        {"name": "v1", "endpoints": hosts(1), "weight": 50},
        {"name": "v2", "endpoints": hosts(CLUSTERS), "weight": 50},
    ]
    routes = [
        {"name": f"r{n}", "match": {"path": f"/r/{n}"}, "operation": "other", "service": f"s{n % CLUSTERS}"}
        for n in range(ROUTES)
    ]  # fmt: skip
    (folder / "listed.hosts").write_text(json.dumps(hosts(0)))
    file = folder / "policy.yaml"
    file.write_text(json.dumps({"services": services, "routes": routes}))
    return file


@dataclass
class ControlPlane:
    ports: Ports
    process: subprocess.Popen[bytes]

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


@contextlib.contextmanager
def _control_plane(folder: Path, policy: Path) -> Iterator[ControlPlane]:
    ports = Ports.random()
    command = [
        sys.executable, "-m", "control_plane", "--policy", str(policy), "--listen", ports.address("xds"),
        "--admin-listen", ports.address("admin"), "--unvalidated", "--log-level", "error",
        "--state", str(folder / f"state-{time.time_ns()}"),
    ]  # fmt: skip
    with (folder / "control_plane.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield ControlPlane(ports, process)
    finally:
        process.terminate()
        process.wait(20)


async def _measure(folder: Path, count: int, delta: bool, changes: int) -> None:
    policy = _write_policy(folder)
    with _control_plane(folder, policy) as plane:
        async with _nodes(plane, count, delta) as nodes, grpc.aio.insecure_channel(plane.ports.address("admin")) as to:
            admin = admin_pb2_grpc.AdminStub(to)
            for kind in ("weights", "endpoint"):
                firsts, alls = [], []
                cpu = plane.cpu_s()
                for turn in range(changes):
                    began = time.monotonic()
                    if kind == "weights":
                        weights = {"v1": 5_000 + turn + 1, "v2": 5_000 - turn - 1}
                        request = admin_pb2.SetWeightRequest(
                            service="s1", weights=weights, reason="bench", actor="bench"
                        )
                        await admin.SetWeight(request, timeout=60)
                        seen = await nodes.times(ROUTE_TYPE)
                    else:
                        # The file is looked at four times a second: counted from when it was seen.
                        began = time.monotonic()
                        beside = folder / "listed.new"
                        beside.write_text(json.dumps([{"address": f"10.200.0.{turn + 1}", "port": 80}]))
                        beside.replace(folder / "listed.hosts")
                        seen = await nodes.times(ENDPOINT_TYPE)
                        began = max(began, min(seen) - 0.01)
                    firsts.append((min(seen) - began) * 1000)
                    alls.append((max(seen) - began) * 1000)
                spent = (plane.cpu_s() - cpu) / changes * 1000
                print(
                    f"{count:>6} {'delta' if delta else 'sotw':<6} {kind:<9}{statistics.median(firsts):>10.0f}"
                    f"{statistics.median(alls):>16.0f}{max(alls):>8.0f}{spent:>9.0f}{plane.peak_mib():>7}",
                    flush=True,
                )


class _Nodes:
    """The client processes. Each prints a line a change that one of its nodes got: type and monotonic time."""

    def __init__(self, processes: list[asyncio.subprocess.Process], count: int) -> None:
        self._processes = processes
        self._count = count
        self._seen: asyncio.Queue[tuple[str, float]] = asyncio.Queue()
        self._readers = [asyncio.create_task(self._read(process)) for process in processes]

    async def times(self, type_url: str) -> list[float]:
        """When each node got the next version of this type."""
        found: list[float] = []
        async with asyncio.timeout(300):
            while len(found) < self._count:
                kind, at = await self._seen.get()
                found += [at] if kind == type_url else []
        return found

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            kind, at = line.decode().split()
            self._seen.put_nowait((kind, float(at)))


@contextlib.asynccontextmanager
async def _nodes(plane: ControlPlane, count: int, delta: bool) -> AsyncIterator[_Nodes]:
    each = 250
    processes = []
    try:
        await _listening(plane)
        for first in range(0, count, each):
            more = (plane.ports.address("xds"), str(first), str(min(each, count - first)), "delta" if delta else "sotw")
            command = [sys.executable, "-m", "bench.xds", "--client", *more]
            processes.append(await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE))
        nodes = _Nodes(processes, count)
        await nodes.times(ROUTE_TYPE)  # everyone has everything once
        await asyncio.sleep(2)
        yield nodes
    finally:
        for process in processes:
            process.kill()
            await process.wait()


async def _listening(plane: ControlPlane) -> None:
    async with asyncio.timeout(60):
        while True:
            async with grpc.aio.insecure_channel(plane.ports.address("admin")) as channel:
                try:
                    await admin_pb2_grpc.AdminStub(channel).Status(admin_pb2.StatusRequest(), timeout=30)
                except grpc.RpcError:
                    await asyncio.sleep(0.2)
                else:
                    return


async def _clients(address: str, first: int, count: int, delta: bool) -> int:
    def tell(kind: str, _version: str) -> None:
        sys.stdout.write(f"{kind} {time.monotonic()}\n")
        sys.stdout.flush()

    async with contextlib.AsyncExitStack() as stack:
        for number in range(first, first + count):
            node = SimulatedNode(address, f"node-{number}", delta, on_received=tell)
            await stack.enter_async_context(node.running())
        await asyncio.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
