"""Owns the one list of the local stack's processes: what runs, how, and when it counts as ready."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paymesh.cli.stack.ports import Ports

LOG_LEVELS = ("debug", "info", "warning", "error")
_ENVOY_DEBUG = (
    "admin", "config", "connection", "conn_handler", "dns", "hc", "health_checker", "init", "main", "pool", "runtime",
    "secret", "upstream",
)  # fmt: skip
"""What of Envoy may be at debug: the parts that never see a request. http, router, ext_proc and ext_authz print headers
and bodies (seen, with planted values), so whatever is not named here stays at info, also what a later Envoy adds."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process, ready when each of `ready` is: see `readiness.is_ready`."""

    name: str
    command: tuple[str, ...]
    ready: tuple[str, ...]
    stop_seconds: float = 5.0
    """From SIGTERM to SIGKILL."""
    writes_own_log: bool = False
    """What it prints beside its log is dropped."""


def processes(
    ports: Ports,
    run_dir: Path,
    policy: Sequence[Path],
    keys: Path,
    envoy: Path,
    bootstrap: Path,
    more: Mapping[str, Sequence[str]],
    log_level: str = "info",
) -> tuple[ProcessSpec, ...]:
    """In the order in which they start; they stop in the opposite one. `more`: further flags by process. `log_level`:
    of the services; Envoy's is one less talkative, and never prints a request."""
    at = ports.address
    policies = tuple(part for path in policy for part in ("--policy", str(path)))
    books = str(run_dir / "data" / "trade.sqlite")
    common = ("--keys", str(keys))

    def module(name: str, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", name, *arguments)

    def sample(kind: str, port: str, *arguments: str) -> tuple[str, ...]:
        return module("paymesh.cli.samples", kind, "--listen", at(port), *common, *arguments)

    def trade(version: str, port: str) -> ProcessSpec:
        # Both versions keep their orders in one database, as two versions of one service do.
        command = sample(
            "trade", port, "--version", version, "--database", books,
            "--wechat", f"http://{at('wechat')}", "--alipay", f"http://{at('alipay')}",
        )  # fmt: skip
        return ProcessSpec(f"trade-{version}", command, (f"http://{at(port)}/healthz",))

    def policies_of(name: str) -> tuple[str, ...]:
        return () if "--policy-from" in more.get(name, ()) else policies

    level = ("--log-level", log_level)
    health = str(run_dir / "logs" / "health.json")
    events = ("--events", f"sqlite:{run_dir / 'data' / 'events.sqlite'}")
    control_plane = module(
        "control_plane", *policies, *level, "--listen", at("xds"), "--admin-listen", at("admin"),
        "--metrics-listen", at("control_plane_metrics"), "--gateway", at("gateway"),
        "--ext-authz", at("ext_authz"), "--ext-proc", at("ext_proc"),
        "--state", str(run_dir / "data"), "--access-log", str(run_dir / "logs" / "access.log"),
        "--health-events", health,
        *more.get("control_plane", ()),
    )  # fmt: skip
    ext_authz = module(
        "ext_authz", *policies_of("ext_authz"), *level,
        "--listen", at("ext_authz"), "--metrics-listen", at("ext_authz_metrics"),
        "--admin-listen", at("limits_admin"), "--limit-overrides", str(run_dir / "data" / "limit_overrides.json"),
        "--admin-audit", str(run_dir / "data" / "limits_audit.sqlite"),
        "--envoy-health-events", health, *events,
        *more.get("ext_authz", ()),
    )  # fmt: skip
    ext_proc = module(
        "ext_proc", *policies_of("ext_proc"), *level,
        "--listen", at("ext_proc"), "--metrics-listen", at("ext_proc_metrics"),
        *events, *more.get("ext_proc", ()),
    )  # fmt: skip
    # Asks the channels what became of payments whose end nobody told. Not where the events are kept elsewhere.
    resolving = module("paymesh.cli", "payments", "resolve", *policies, *events, "--every", "5")
    resolver = () if "--events" in more.get("ext_authz", ()) else (ProcessSpec("resolver", resolving, ()),)
    ledger = module(
        "paymesh.ledger", *level, "--listen", at("ledger"), "--metrics-listen", at("ledger_metrics"),
        *events, *more.get("ledger", ()),
    )  # fmt: skip
    envoy_command = (
        str(envoy), "-c", str(bootstrap), *_envoy_levels(log_level), "--log-path", str(run_dir / "logs" / "envoy.log"),
        "--concurrency", "2",
        # Envoy keeps what it writes to files, health events too, for 10 s otherwise.
        "--file-flush-interval-msec", "500",
        # Drained, every answer closes its connection, from the first on. Hot restart would share memory between stacks.
        "--drain-time-s", "2", "--drain-strategy", "immediate", "--disable-hot-restart",
    )  # fmt: skip
    return (
        # The channels' simulators first: trade calls them.
        *(
            ProcessSpec(name, sample(name, name), (f"http://{at(name)}/healthz",))
            for name in ("wechat", "alipay", "unionpay", "card", "offline")
        ),
        trade("v1", "trade_v1"),
        trade("v2", "trade_v2"),
        ProcessSpec("ledger", ledger, (f"http://{at('ledger')}/healthz",)),
        # The deciding services before the control plane: Envoy must never route before they can refuse.
        ProcessSpec(
            "ext_authz",
            ext_authz,
            (f"grpc:{at('ext_authz')}",),
        ),
        ProcessSpec(
            "ext_proc",
            ext_proc,
            (f"grpc:{at('ext_proc')}",),
        ),
        ProcessSpec(
            "control_plane",
            control_plane,
            (f"grpc:{at('xds')}", f"tcp:{at('admin')}"),
        ),
        *resolver,
        # Envoy last, and so stopped first: `LocalStack` drains it while everything behind it still answers.
        ProcessSpec(
            "envoy",
            envoy_command,
            # Its /ready is 200 even if the control plane gave it no listener.
            (f"http://{at('envoy_admin')}/ready", f"tcp:{at('gateway')}"),
            stop_seconds=1.5,  # it was drained before
            # When it crashes, it prints the headers and bodies at hand beside its log (envoy issue 37793).
            writes_own_log=True,
        ),
    )


def _envoy_levels(log_level: str) -> tuple[str, ...]:
    if log_level != "debug":
        return ("--log-level", "warning" if log_level == "info" else log_level)
    return ("--log-level", "info", "--component-log-level", ",".join(f"{name}:debug" for name in _ENVOY_DEBUG))
