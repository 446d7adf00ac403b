"""Owns one child process: started, watched, restarted when it dies, stopped, and never outliving us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from paymesh.cli.stack.processes import ProcessSpec

_TETHER = Path(__file__).with_name("tether.py")
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.2, 5.0
_STABLE_S = 10.0
"""A process that ran this long is not in a crash loop: the next restart is quick again."""

Say = Callable[[str], None]


class Child:
    """A process kept running until `stop()`."""

    def __init__(self, spec: ProcessSpec, log: Path, environ: Mapping[str, str], say: Say) -> None:
        self.spec = spec
        self.log = log
        self.restarts = 0
        self._environ = environ
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The process's id; None while it is not running."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else None

    async def start(self) -> None:
        await self._spawn()
        self._task = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL when it takes too long; returns when it is gone."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.spec.stop_seconds)
        except TimeoutError:
            self._say(f"{self.spec.name} did not stop in {self.spec.stop_seconds:g} s: killed")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        output = Path(os.devnull) if self.spec.writes_own_log else self.log
        with output.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *tethered(self.spec.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self._environ),
                # A session of its own: Ctrl-C in the terminal reaches us alone, and we stop things in order.
                start_new_session=True,
            )

    async def _keep_running(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            assert self._process is not None
            began = time.monotonic()
            code = await self._process.wait()
            if self._stopping:
                return
            if time.monotonic() - began > _STABLE_S:
                backoff_s = _FIRST_BACKOFF_S
            self._say(f"{self.spec.name} ended ({_how(code)}); restarting; its log: {self.log}")
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)
            self.restarts += 1
            await self._spawn()


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def tethered(command: Sequence[str]) -> tuple[str, ...]:
    """`command`, killed by the kernel when this process dies, however that happens.

    Elsewhere than on Linux nothing ties them: there a SIGKILLed supervisor leaves its children.
    """
    if not sys.platform.startswith("linux"):
        return tuple(command)
    # -I -S: nothing of the environment or of site-packages; 15 ms.
    return (sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *command)
