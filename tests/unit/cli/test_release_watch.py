"""`paymesh release get --watch` and `release status`: changes as they come, outages, ends, and what pipelines read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from paymesh.cli.main import main
from paymesh.cli.release import watched
from tests.unit.cli.scripted_releases import Refused, Script, a_release, serving

HOLDING = a_release(why="")
PROMOTED = a_release(phase="promoted", over=True, step=5, set_weight=10_000, actual_weight=10_000, hold_until=0)
OUTAGE = Refused(grpc.StatusCode.UNAVAILABLE, "restarting")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "EVERY_S", 0.01)


def run(script: Script, *arguments: str) -> int:
    return main(["release", *arguments, "--admin", script.address])


class TestLines:
    def test_a_line_a_change_until_it_is_over(self, capsys: pytest.CaptureFixture[str]) -> None:
        busier = a_release(why="", traffic=[])
        with serving(Get=[HOLDING, HOLDING, busier, a_release(why="", actual_weight=None), PROMOTED]) as script:
            assert run(script, "get", "trade-v2", "--watch") == 0
        lines = capsys.readouterr().out.splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ trade-v2: ", line) for line in lines)
        assert [line.partition(" trade-v2: ")[2] for line in lines] == [
            "holding; step 4 of 5 (hold 5m); set 10.00%, actual 10.00%; verdict pass",
            "holding; step 4 of 5 (hold 5m); set 10.00%, actual differs; verdict pass",
            "promoted; set 100.00%, actual 100.00%; verdict pass; every check passed",
        ]

    def test_json_is_a_line_a_change(self, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Get=[HOLDING, HOLDING, PROMOTED]) as script:
            assert run(script, "get", "trade-v2", "--watch", "-o", "json") == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["phase"] for one in found] == ["holding", "promoted"]

    def test_an_outage_is_told_once_and_survived(self, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Get=[HOLDING, OUTAGE, OUTAGE, HOLDING, PROMOTED]) as script:
            assert run(script, "get", "trade-v2", "--watch") == 0
        shown = capsys.readouterr()
        assert len(shown.out.splitlines()) == 2
        assert shown.err.splitlines() == [
            f"the control plane on {script.address} does not answer; asked again until it does",
            f"the control plane on {script.address} answers again",
        ]

    def test_a_release_that_is_gone_ends_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Get=[HOLDING, Refused(grpc.StatusCode.NOT_FOUND, "no release trade-v2")]) as script:
            assert run(script, "get", "trade-v2", "--watch") == 2
        assert capsys.readouterr().err == "no release trade-v2\n"


class TestStatus:
    @pytest.mark.parametrize(("phase", "code"), [("promoted", 0), ("isolated", 0), ("rolled_back", 1), ("frozen", 1)])
    def test_the_exit_code_says_how_it_ended(self, phase: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Get=[HOLDING, a_release(phase=phase, over=phase in ("promoted", "rolled_back"))]) as script:
            assert run(script, "status", "trade-v2", "--timeout", "60") == code
        first, second = capsys.readouterr().out.splitlines()
        assert " trade-v2: holding; " in first
        assert f" trade-v2: {phase}; " in second

    @pytest.mark.parametrize("timeout", ["0", "1"])
    def test_not_in_time(self, timeout: str, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Get=HOLDING) as script:
            assert run(script, "status", "trade-v2", "--timeout", timeout) == 3
        assert capsys.readouterr().err == f"trade-v2 is holding after {timeout} s\n"
        assert (len(script.asked) == 1) == (timeout == "0")

    def test_json_is_the_last_state(self, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Get=[HOLDING, OUTAGE, PROMOTED]) as script:
            assert run(script, "status", "trade-v2", "-o", "json") == 0
        assert json.loads(capsys.readouterr().out)["phase"] == "promoted"

    def test_a_release_that_does_not_exist(self, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Get=Refused(grpc.StatusCode.NOT_FOUND, "no release trade-v9")) as script:
            assert run(script, "status", "trade-v9", "--timeout", "60") == 2
        assert capsys.readouterr().err == "no release trade-v9\n"

    @pytest.mark.parametrize("timeout", ["-1", "1.5", "soon"])
    def test_a_timeout_is_whole_seconds(self, timeout: str) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["release", "status", "trade-v2", "--timeout", timeout])
        assert ended.value.code == 2


class Terminal:
    """A `paymesh release get --watch` of its own, on a pseudo-terminal."""

    def __init__(self, script: Script) -> None:
        self._master, slave = pty.openpty()
        # What was begun in the background of a script ignores SIGINT, and so would the child.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "paymesh.cli", "release", "get", "trade-v2", "--watch", "--admin", script.address],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=Path(__file__).resolve().parents[3],
            env={**os.environ, "TERM": "xterm", "COLUMNS": "60", "LINES": "24", "PYTHONIOENCODING": "utf-8"},
        )
        signal.signal(signal.SIGINT, before)
        os.close(slave)
        self.shown = ""

    def read_until(self, text: str | None, timeout_s: float = 60) -> str:
        """Up to this text; None: to the end of what it prints. Everything so far."""
        ends = time.monotonic() + timeout_s
        while text is None or text not in self.shown:
            assert time.monotonic() < ends, self.shown
            try:
                read = os.read(self._master, 65_536)
            except OSError:  # Linux says EIO when the last one that had it open is gone
                read = b""
            if not read:
                assert text is None, self.shown
                break
            self.shown += read.decode(errors="replace")
        return self.shown

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)


class TestTerminal:
    def test_it_is_drawn_in_place_until_it_is_over(self) -> None:
        with serving(Get=[HOLDING, OUTAGE, PROMOTED]) as script:
            terminal = Terminal(script)
            try:
                shown = terminal.read_until(None)
                assert terminal.process.wait(30) == 0
            finally:
                terminal.close()
        begin, *frames = shown.split("\x1b[H")
        assert begin == ""
        assert frames[0] == "\x1b[2J\x1b[?25l"
        assert len(frames) == 4
        assert "Phase:        holding until" in frames[1]
        assert "No control plane answers" in frames[2]
        assert "Phase:        promoted" in frames[3]
        assert shown.endswith("\x1b[?25h")
        lines = [line.removesuffix("\x1b[K") for line in frames[1].split("\r\n")]
        assert max(len(line) for line in lines) <= 60
        assert len(lines) <= 24

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_the_cursor_comes_back(self, number: signal.Signals, code: int) -> None:
        with serving(Get=HOLDING) as script:
            terminal = Terminal(script)
            try:
                terminal.read_until("Steps (3 of 5 done)")
                terminal.process.send_signal(number)
                shown = terminal.read_until(None)
                assert terminal.process.wait(30) == code
            finally:
                terminal.close()
        assert shown.endswith("\x1b[?25h")
        assert "Traceback" not in shown


async def test_a_control_plane_that_comes_back_is_found_again(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Get=HOLDING) as script:
        arguments = ["release", "status", "trade-v2", "--timeout", "60", "--admin", script.address]
        waiting = asyncio.create_task(asyncio.to_thread(main, arguments))
        while not script.asked:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    with serving(address=script.address, Get=PROMOTED):
        assert await waiting == 0
