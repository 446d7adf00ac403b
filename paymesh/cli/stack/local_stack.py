"""Owns the running local stack: everything starts in order, stays up, and stops in the opposite order.

async with LocalStack(StackOptions(policy=(Path("examples/demo"),))) as stack:
    await stack.ready()
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from paymesh.cli.stack.bootstrap import render_bootstrap
from paymesh.cli.stack.child import Child
from paymesh.cli.stack.demo_keys import ensure_demo_keys
from paymesh.cli.stack.envoy_drain import drain
from paymesh.cli.stack.ports import Ports, taken
from paymesh.cli.stack.processes import processes
from paymesh.cli.stack.readiness import is_ready
from paymesh.server.envoy_binary import find_envoy

DEMO_POLICY = Path(__file__).resolve().parents[3] / "examples" / "demo"
READY_SECONDS = 60.0
_READY_POLL_S = 0.1
_HOPELESS_RESTARTS = 3


class StackError(Exception):
    """The stack cannot run; the message says what to do."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    policy: tuple[Path, ...] = (DEMO_POLICY,)
    run_dir: Path = Path(".paymesh")
    ports: Ports = field(default_factory=Ports)
    more: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Further flags of `control_plane`, `ext_authz` and `ledger`, by process."""
    log_level: str = "info"
    """debug, info, warning or error."""


class LocalStack:
    """Envoy, the services and the samples. Entering starts them; leaving stops every one."""

    def __init__(self, options: StackOptions, say: Callable[[str], None] = print) -> None:
        self.ports = options.ports
        self.run_dir = options.run_dir.resolve()
        if not options.policy:
            raise StackError("no policy: --policy PATH names one")
        self.keys, generated = ensure_demo_keys(self.run_dir)
        self.logs = self.run_dir / "logs"
        self._policy = tuple(path.resolve() for path in options.policy)
        if DEMO_POLICY in self._policy:
            # Only there: nobody's own policy gets two hundred merchants that it does not name.
            self._policy += (generated,)
        self._more = options.more
        self._log_level = options.log_level
        self._say = say
        self._children: dict[str, Child] = {}

    async def __aenter__(self) -> LocalStack:
        problems = taken(self.ports)
        if problems:
            raise StackError("\n".join(problems))
        for folder in (self.logs, self.run_dir / "data"):
            folder.mkdir(parents=True, exist_ok=True)
        bootstrap = self.run_dir / "bootstrap.yaml"
        bootstrap.write_text(render_bootstrap(admin_port=self.ports.envoy_admin, xds_port=self.ports.xds))
        specs = processes(
            self.ports, self.run_dir, self._policy, self.keys, find_envoy(), bootstrap, self._more, self._log_level
        )
        environ = self._environ()
        try:
            for spec in specs:
                child = Child(spec, self.logs / f"{spec.name}.log", environ, self._say)
                self._children[spec.name] = child
                await child.start()
        except BaseException:
            await self._stop_whole()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_whole()

    async def ready(self, timeout_s: float = READY_SECONDS) -> None:
        """Wait until every process is ready. Raises StackError that names the one that is not, and its log."""
        deadline = time.monotonic() + timeout_s
        for name, child in self._children.items():
            await _until_ready(name, child, deadline)

    async def wait_ready(self, name: str, timeout_s: float = READY_SECONDS) -> None:
        """Wait until one process is ready (again). Raises StackError."""
        await _until_ready(name, self._children[name], time.monotonic() + timeout_s)

    def pid(self, name: str) -> int | None:
        return self._children[name].pid

    def kill(self, name: str) -> None:
        """SIGKILL, as a crash would end it; the supervisor starts it again."""
        pid = self.pid(name)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def addresses(self) -> Mapping[str, str]:
        """What a person may want to open, by name."""
        at = self.ports.address
        return {
            "gateway": f"http://{at('gateway')}",
            "Envoy's admin page": f"http://{at('envoy_admin')}",
            "control plane admin API": at("admin"),
            "limits' admin API": at("limits_admin"),
            "sample services": " ".join(
                f"{name}={at(name)}"
                for name in ("trade_v1", "trade_v2", "wechat", "alipay", "unionpay", "card", "offline")
            ),
            "metrics": " ".join(
                f"http://{at(name)}/metrics"
                for name in ("ext_authz_metrics", "ext_proc_metrics", "control_plane_metrics", "ledger_metrics")
            ),
            "logs": str(self.logs),
            "demo keys": str(self.keys),
        }

    async def _stop_whole(self) -> None:
        # A second Ctrl-C, or one in the middle of the stopping, must not leave processes behind.
        stopping = asyncio.ensure_future(self._stop())
        cancelled: asyncio.CancelledError | None = None
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _stop(self) -> None:
        # Envoy first, alone: it drains while the others still answer. Then the rest at once.
        envoy = self._children.pop("envoy", None)
        if envoy is not None:
            if envoy.pid is not None:
                await drain(self.ports.address("envoy_admin"))
            await envoy.stop()
        await asyncio.gather(*(child.stop() for child in self._children.values()))
        self._children.clear()

    def _environ(self) -> dict[str, str]:
        named = {
            f"PAYMESH_{name.upper()}_PORT": str(getattr(self.ports, name))
            for name in ("trade_v1", "trade_v2", "card", "offline", "wechat", "alipay", "unionpay", "ledger")
        }
        # These two make gRPC print what it sends and receives, headers and messages.
        inherited = {name: value for name, value in os.environ.items() if name not in ("GRPC_TRACE", "GRPC_VERBOSITY")}
        return {**inherited, **named, "PAYMESH_DEMO_KEYS": str(self.keys), "PYTHONUNBUFFERED": "1"}


async def _until_ready(name: str, child: Child, deadline: float) -> None:
    """Wait until every target of the child is ready. StackError after `deadline`, or once it keeps dying."""
    deaths = child.restarts + _HOPELESS_RESTARTS
    for target in child.spec.ready:
        while not await is_ready(target):
            if child.restarts >= deaths or time.monotonic() > deadline:
                raise StackError(f"{name} does not come up; the end of {child.log}:\n{_tail(child.log)}")
            await asyncio.sleep(_READY_POLL_S)


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
