"""Simple child processes: restarted, stopped, and gone when the supervisor is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from paymesh.cli.stack import child as child_module
from paymesh.cli.stack.child import Child
from paymesh.cli.stack.processes import ProcessSpec

REPOSITORY = Path(__file__).resolve().parents[4]
PYTHON = sys.executable
SLEEPER = (PYTHON, "-c", "import time; print('up', flush=True); time.sleep(3600)")
STUBBORN = (
    PYTHON,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(3600)",
)


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Callable[..., Child]]:
    children: list[Child] = []

    def make(*command: str, said: list[str] | None = None, stop_seconds: float = 5.0) -> Child:
        spec = ProcessSpec(f"child-{len(children)}", command, (), stop_seconds)
        say = print if said is None else said.append
        children.append(Child(spec, tmp_path / f"{spec.name}.log", os.environ, say))
        return children[-1]

    yield make
    for child in children:
        await child.stop()


async def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_what_dies_is_started_again_and_said(run: Callable[..., Child]) -> None:
    said: list[str] = []
    child = run(*SLEEPER, said=said)
    await child.start()
    await until(lambda: child.log.read_text() == "up\n")
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.log.read_text() == "up\nup\n")
    assert child.pid != first
    assert child.restarts == 1
    assert said == [f"child-0 ended (signal SIGKILL); restarting; its log: {child.log}"]


async def test_what_keeps_dying_is_started_ever_more_slowly(
    run: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "_FIRST_BACKOFF_S", 0.1)
    said: list[str] = []
    child = run(PYTHON, "-S", "-c", "print('x', flush=True); raise SystemExit(7)", said=said)
    began = time.monotonic()
    await child.start()
    await until(lambda: child.restarts == 3)
    assert time.monotonic() - began >= 0.1 + 0.2 + 0.4
    assert "child-0 ended (exit code 7)" in said[0]


async def test_a_program_that_is_not_there_says_so_in_its_log(run: Callable[..., Child]) -> None:
    child = run("/absent/program")
    await child.start()
    await until(lambda: "cannot start /absent/program: No such file" in child.log.read_text())


async def test_stop_is_not_taken_for_a_death(run: Callable[..., Child]) -> None:
    said: list[str] = []
    child = run(*SLEEPER, said=said)
    await child.start()
    await until(lambda: child.log.read_text())
    pid = child.pid
    await child.stop()
    assert pid is not None
    assert not alive(pid)
    assert (child.pid, said) == (None, [])


async def test_what_does_not_stop_is_killed(run: Callable[..., Child]) -> None:
    said: list[str] = []
    child = run(*STUBBORN, said=said, stop_seconds=0.3)
    await child.start()
    await until(lambda: child.log.read_text())
    pid = child.pid
    await child.stop()
    assert pid is not None
    assert not alive(pid)
    assert said == ["child-0 did not stop in 0.3 s: killed"]


SUPERVISOR = """
import asyncio, os, sys
from pathlib import Path
from paymesh.cli.stack.child import Child
from paymesh.cli.stack.processes import ProcessSpec

async def main():
    for number in range(3):
        spec = ProcessSpec(f"c{number}", tuple(sys.argv[2:]), ())
        child = Child(spec, Path(sys.argv[1]) / f"c{number}.log", os.environ, print)
        await child.start()
        print(child.pid, flush=True)
    print("all", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's promise is Linux's")
@pytest.mark.parametrize("command", [SLEEPER, STUBBORN], ids=["plain", "ignoring SIGTERM"])
async def test_a_killed_supervisor_leaves_no_child(tmp_path: Path, command: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [PYTHON, "-c", SUPERVISOR, str(tmp_path), *command],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    ) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(line) for line in iter(supervisor.stdout.readline, "all\n")]
        await until(lambda: all((tmp_path / f"c{number}.log").read_text() == "up\n" for number in range(3)))
        assert len(pids) == 3
        assert all(alive(pid) for pid in pids)
        supervisor.kill()
    await until(lambda: not any(alive(pid) for pid in pids), seconds=3)
