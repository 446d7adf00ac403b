"""Owns one measurement: what each part of the chain costs a payment, in time and in CPU.

    python -m bench.chain

Real processes on one machine: Envoy with the control plane's configuration, `python -m ext_authz`, `python -m
ext_proc`, an upstream that answers at once, and a load generator; all share its cores. `bench/README.md` has figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.load import BODY
from bench.processes import Site, Variant
from paymesh.cli.stack.child import Child, tethered
from paymesh.cli.stack.envoy_drain import drain
from paymesh.cli.stack.processes import ProcessSpec
from paymesh.cli.stack.readiness import is_ready
from paymesh.server.envoy_binary import find_envoy

_WARMUP_S = 1.5
_READY_S = 30.0
_REPOSITORY = Path(__file__).resolve().parents[1]
VARIANTS = (
    Variant("(a) Envoy alone", ext_authz=False, ext_proc=False),
    Variant("(b) with ext_authz", ext_authz=True, ext_proc=False),
    Variant("(c) with ext_proc", ext_authz=False, ext_proc=True),
    Variant("(d) with both", ext_authz=True, ext_proc=True),
    Variant("(e) as (b), bare grpcio answers", ext_authz=True, ext_proc=False, bare=True),
)
BARE_CALLS = "(f) bare grpcio, grpc.aio client"
_CPU_COLUMNS = ("envoy", "ext_authz", "ext_proc", "bare", "load")
_NOTES = """
CPU: user and system time of the whole process a request. `load` is the load generator itself.
(a), (c): nobody writes x-pay-channel, so the route matches without it; (c): Envoy's set_metadata filter stands in
for ext_authz's decision, and ext_proc sanitises every request and reads every answer.
(e), (f): a handler that returns constant bytes, no protobuf, no log, no metrics. Its answer is ext_authz's to the first
request of (e); (f) repeats that request's bytes. (b) minus (e) is what ext_authz adds to grpcio.
"""

Report = Mapping[str, Any]


@contextlib.asynccontextmanager
async def running(spec: ProcessSpec, folder: Path, environ: Mapping[str, str]) -> AsyncIterator[Child]:
    child = Child(spec, folder / f"{spec.name}.log", {**os.environ, **environ}, print)
    try:
        await child.start()
        until = time.monotonic() + _READY_S
        while not all([await is_ready(target) for target in spec.ready]):
            if child.restarts or time.monotonic() > until:
                raise SystemExit(f"{spec.name} does not come up:\n{child.log.read_text(errors='replace')[-2000:]}")
            await asyncio.sleep(0.1)
        yield child
        if child.restarts:
            raise SystemExit(f"{spec.name} crashed:\n{child.log.read_text(errors='replace')[-2000:]}")
    finally:
        await child.stop()


async def _load(arguments: Sequence[str], children: Mapping[str, Child]) -> Report:
    pids = [f"--pid={name}={child.pid}" for name, child in children.items()]
    process = await asyncio.create_subprocess_exec(
        *tethered((sys.executable, "-m", "bench.load", *arguments, *pids)),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise SystemExit("the load generator failed")
    report: Report = json.loads(output)
    return report


async def _measure(folder: Path, seconds: float, connections: int, *, record: bool) -> bool:
    """Prints the table line by line; whether every answer was right."""
    site = Site(folder, events=f"sqlite:{folder / 'events.sqlite'}" if record else "none")
    common = (f"--connections={connections}", f"--seconds={seconds}", f"--warmup={_WARMUP_S}")
    reports = []
    async with contextlib.AsyncExitStack() as stack:
        services = {
            spec.name: await stack.enter_async_context(running(spec, folder, site.environ)) for spec in site.services()
        }
        _print_row("", ("req/s", "p50 ms", "p99 ms", *(f"{name} us" for name in _CPU_COLUMNS), "failed"))
        for variant in VARIANTS:
            async with running(site.gateway(variant), folder, site.environ) as envoy:
                arguments = ("http", f"--target={site.address('gateway')}", f"--secret={site.secret}", *common)
                measured = {name: services[name] for name in _parts(variant)}
                reports.append(await _load(arguments, {"envoy": envoy, **measured}))
                _print_report(variant.title, reports[-1])
                await drain(site.address("admin"))
        calls = ("calls", f"--target={site.address('bare')}", *common)
        reports.append(await _load(calls, {"bare": services["bare"]}))
        _print_report(BARE_CALLS, reports[-1])
    for report in reports:
        if report["failures"]:
            print(f"a failure: {report['first_failure']}")
    return not any(report["failures"] for report in reports)


def _parts(variant: Variant) -> list[str]:
    decides = ["bare" if variant.bare else "ext_authz"] if variant.ext_authz else []
    return [*decides, *(["ext_proc"] if variant.ext_proc else [])]


def _print_report(title: str, report: Report) -> None:
    if not report["answered"]:
        _print_row(title, ("-",) * (3 + len(_CPU_COLUMNS)) + (str(report["failures"]),))
        return
    cpu = (f"{report['cpu_us'][name]:.0f}" if name in report["cpu_us"] else "" for name in _CPU_COLUMNS)
    times = (f"{report['per_second']:.0f}", f"{report['p50_ms']:.2f}", f"{report['p99_ms']:.2f}")
    _print_row(title, (*times, *cpu, str(report["failures"])))


def _print_row(title: str, cells: Sequence[str]) -> None:
    print(f"{title:33}" + "".join(f"{cell:>13}" for cell in cells), flush=True)


def main() -> int:
    """Measure and print. Exit code 1: some answer was not 200."""
    parser = argparse.ArgumentParser(prog="bench.chain", description="What each part of the chain costs a payment.")
    parser.add_argument("--seconds", type=float, default=8.0, help="measured for each line, after a short warm-up")
    parser.add_argument("--connections", type=int, default=16, help="each sends its next request after the last answer")
    parser.add_argument("--record", action="store_true", help="write every payment's attempt and end, in SQLite")
    args = parser.parse_args()
    shown = subprocess.run([find_envoy(), "--version"], capture_output=True, text=True, check=True).stdout
    envoy = shown.rpartition("version: ")[2].split("/")[1]
    print(
        f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}"
        f", grpcio {version('grpcio')}, Envoy {envoy}; {args.connections} connections, {args.seconds:g} s"
        f" a line, bodies of {len(BODY)} bytes; load average before: {os.getloadavg()[0]:.1f}"
    )
    os.chdir(_REPOSITORY)  # so that the processes find their modules
    try:
        with tempfile.TemporaryDirectory(prefix="paymesh-bench-") as folder:
            right = asyncio.run(_measure(Path(folder), args.seconds, args.connections, record=args.record))
    except KeyboardInterrupt:
        return 130
    print(_NOTES, end="")
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
