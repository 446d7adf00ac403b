"""`paymesh up` as a person uses it: a process in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import fields
from pathlib import Path

import aiohttp
import pytest

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.world import World
from paymesh.cli.stack.ports import Ports, flag

pytestmark = pytest.mark.data_plane
REPOSITORY = Path(__file__).resolve().parents[2]
PROCESSES = 13


class Up:
    """A running `paymesh up` on free ports."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir, self.ports = run_dir, Ports.random()
        flags = [text for field in fields(Ports) for text in (flag(field.name), str(getattr(self.ports, field.name)))]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "paymesh.cli", "up", "--run-dir", str(run_dir), *flags],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = self._until_the_table_ends()
        self.children = list(_children(self.process.pid))

    def _until_the_table_ends(self) -> str:
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "demo keys" in line:
                break
        return "".join(lines)

    @contextlib.asynccontextmanager
    async def world(self) -> AsyncIterator[World]:
        async with aiohttp.ClientSession() as session:
            yield World(session, self.ports.address("gateway"), self.run_dir / "keys", {})

    async def ended(self, within_s: float) -> str:
        """The rest of what it said. Fails unless it and all its children are gone in time."""
        began = time.monotonic()
        rest = (await asyncio.to_thread(self.process.communicate, timeout=within_s))[0]
        while any(_alive(pid) for pid in self.children):
            assert time.monotonic() - began < within_s, "a child is left"
            await asyncio.sleep(0.05)
        return rest


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()
    assert running.process.stdout is not None
    running.process.stdout.close()


def _stat(pid: int) -> list[str]:
    """State, parent, ... of a process; empty if there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _alive(pid: int) -> bool:
    return _stat(pid)[:1] not in ([], ["Z"])


def _children(parent: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _stat(int(entry.name))[1:2] == [str(parent)]:
            yield int(entry.name)


async def test_ctrl_c_lets_a_payment_end_and_leaves_nothing(up: Up) -> None:
    assert f"http://{up.ports.address('gateway')}" in up.said
    assert len(up.children) == PROCESSES
    async with up.world() as world:
        slow = asyncio.ensure_future(world.pay(payment("slow", "card", card={"pan": "6222021234560044"})))
        await asyncio.sleep(0.7)
        up.process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.3)
        up.process.send_signal(signal.SIGINT)  # an impatient second one changes nothing
        answer = await slow
    rest = await up.ended(within_s=10)
    assert (answer.status, answer.document["status"]) == (200, "SUCCEEDED")
    assert rest == "stopping ...\n"
    assert up.process.returncode == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's promise is Linux's")
async def test_killed_itself_it_leaves_nothing(up: Up) -> None:
    assert len(up.children) == PROCESSES
    up.process.kill()
    await up.ended(within_s=3)


async def test_what_dies_is_said_and_comes_back(up: Up) -> None:
    (envoy,) = (pid for pid in up.children if b"envoy" in Path(f"/proc/{pid}/exe").readlink().name.encode())
    os.kill(envoy, signal.SIGKILL)
    async with up.world() as world:
        await _eventually(lambda: _listens(up.ports.gateway))
        assert (await world.pay(payment("after", "card", card={"pan": "6222021234567894"}))).status == 200
    up.process.send_signal(signal.SIGTERM)
    rest = await up.ended(within_s=10)
    assert "envoy ended (signal SIGKILL); restarting" in rest
    assert up.process.returncode == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while True:
            await asyncio.sleep(0.2)
            if true():
                return


def test_a_taken_port_ends_it_with_the_flag_that_helps(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        flags = [
            f"{flag(field.name)}={number}" for field, number in zip(fields(Ports), range(41000, 41100), strict=False)
        ]
        found = subprocess.run(
            [sys.executable, "-m", "paymesh.cli", "up", "--run-dir", str(tmp_path), *flags, f"--xds-port={port}"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert found.returncode == 2
    assert f"port {port} is taken: --xds-port chooses another" in found.stderr
    assert "Traceback" not in found.stderr
