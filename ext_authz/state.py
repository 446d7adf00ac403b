"""Owns which state the checks work on: this process's own, or a Redis or Valkey that several workers share, with its
flags, metrics and health. Refuses a password on the command line, where every user of the machine can read it.

A shared state that is away does not keep the service from starting or serving: routes that need it are refused with
503, limits do what their `on_error` says, the rest goes on. The health service `shared_state` and the metrics say so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from grpc_health.v1 import health, health_pb2
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from paymesh.payments.denial import Unavailable
from paymesh.payments.limits.demands import LimitStore
from paymesh.payments.limits.fallback import LimitsWithFallback
from paymesh.payments.limits.in_process import InProcessLimits
from paymesh.payments.limits.latency import InProcessLatencies, LatencyStore
from paymesh.payments.limits.leases import LeasedTokens
from paymesh.payments.limits.override_store import OverrideFile, OverrideStore
from paymesh.payments.nonces import InProcessNonces, NonceStore
from paymesh.payments.order_versions import InProcessOrderVersions, OrderVersions
from paymesh.payments.orders import InProcessOrders, OrderStore
from paymesh.payments.secrets import Secret
from paymesh.payments.shared_state.address import parse_state_url
from paymesh.payments.shared_state.breaker import BreakerState
from paymesh.payments.shared_state.client import NOT_TRIED, TIMEOUT_S, Outcome, SharedState
from paymesh.payments.shared_state.redis_latencies import RedisLatencies
from paymesh.payments.shared_state.redis_limits import RedisLimits
from paymesh.payments.shared_state.redis_nonces import RedisNonces
from paymesh.payments.shared_state.redis_order_versions import RedisOrderVersions
from paymesh.payments.shared_state.redis_orders import RedisOrders
from paymesh.payments.shared_state.redis_overrides import RedisOverrides
from paymesh.server.startup import StartupError

HEALTH_SERVICE = "shared_state"
"""What a gRPC health check asks for. Unknown to a service that shares no state."""
_URL_VARIABLE = "PAYMESH_STATE_URL"
_MAX_TIMEOUT_MS = 10_000
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """The stores that may be shared. `shared`: None if they are this process's own."""

    nonces: NonceStore
    orders: OrderStore
    order_versions: OrderVersions
    limits: LimitStore
    latencies: LatencyStore
    overrides: OverrideStore
    shared: SharedState | None


def add_state_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of shared state. Each falls back to an environment variable."""
    parser.add_argument(
        "--state-url",
        help=f"Redis or Valkey that workers share: redis://HOST:PORT/DB, rediss://, unix:///PATH, "
        f"redis+sentinel://HOST,HOST/MASTER, redis+cluster://HOST,HOST (or {_URL_VARIABLE}; default: none)",
    )
    parser.add_argument(
        "--state-timeout-ms",
        type=_milliseconds,
        default=os.environ.get("PAYMESH_STATE_TIMEOUT_MS") or str(round(TIMEOUT_S * 1000)),
        help="the longest that a call to it may take (or PAYMESH_STATE_TIMEOUT_MS; default: %(default)s)",
    )
    parser.add_argument(
        "--state-password-file",
        type=Path,
        default=os.environ.get("PAYMESH_STATE_PASSWORD_FILE") or None,
        help="file that holds its password (or PAYMESH_STATE_PASSWORD_FILE; default: none)",
    )
    parser.add_argument(
        "--limit-overrides",
        type=Path,
        default=os.environ.get("PAYMESH_LIMIT_OVERRIDES") or None,
        metavar="FILE",
        help="where sizes set for a while are kept without shared state (or PAYMESH_LIMIT_OVERRIDES; default: lost "
        "with the process)",
    )


@contextlib.asynccontextmanager
async def open_state(
    args: argparse.Namespace,
    registry: CollectorRegistry,
    servicer: health.aio.HealthServicer,
    environ: Mapping[str, str] = os.environ,
) -> AsyncIterator[State]:
    """The state that the parsed arguments ask for. StartupError for what cannot be used, not for what is away."""
    url = args.state_url or environ.get(_URL_VARIABLE)
    if not url:
        if args.state_password_file is not None:
            raise StartupError("--state-password-file without --state-url")
        kept = _override_file(args.limit_overrides)
        yield State(
            InProcessNonces(),
            InProcessOrders(),
            InProcessOrderVersions(),
            InProcessLimits(),
            InProcessLatencies(),
            kept,
            None,
        )
        return
    metrics = _Metrics(registry)
    shared = _shared_state(args, url, metrics)
    following = asyncio.create_task(_follow(shared, metrics.news, servicer))
    try:
        if not await shared.start():
            _LOG.warning("shared state is away at the start", extra={"fields": {"state": shared.state.value}})
        limits = LeasedTokens(LimitsWithFallback(RedisLimits(shared)))
        yield State(
            RedisNonces(shared),
            RedisOrders(shared),
            RedisOrderVersions(shared),
            limits,
            RedisLatencies(shared),
            RedisOverrides(shared),
            shared,
        )
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await shared.close()


def _override_file(path: Path | None) -> OverrideFile:
    try:
        return OverrideFile(path)
    except Unavailable as error:
        raise StartupError(f"--limit-overrides {error}") from error


def _milliseconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MAX_TIMEOUT_MS):
        raise argparse.ArgumentTypeError(f"not a whole number from 1 to {_MAX_TIMEOUT_MS}")
    return int(text)


def _shared_state(args: argparse.Namespace, url: str, metrics: _Metrics) -> SharedState:
    password = None if args.state_password_file is None else _password(args.state_password_file)
    try:
        if args.state_url and parse_state_url(url).password is not None:
            raise StartupError(f"--state-url holds a password: use --state-password-file, or {_URL_VARIABLE}")
        return SharedState(url, timeout_s=args.state_timeout_ms / 1000, password=password, observer=metrics)
    except ValueError as error:
        raise StartupError(f"{'--state-url' if args.state_url else _URL_VARIABLE}: {error}") from error


def _password(file: Path) -> Secret:
    try:
        value = file.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise StartupError(f"--state-password-file {file}: {error.strerror or type(error).__name__}") from error
    if not value:
        raise StartupError(f"--state-password-file {file}: empty")
    return Secret(value)


class _Metrics:
    """Counts what the client tells. `news` is set at every change of the circuit breaker.

    Made only where state is shared: elsewhere a gauge `up` of 0 would alert somebody.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.news = asyncio.Event()
        self._up = Gauge("paymesh_shared_state_up", "1 while calls to shared state are tried.", registry=registry)
        self._breaker = Gauge(
            "paymesh_shared_state_breaker_state", "1 for the state it is in.", ["state"], registry=registry
        )
        calls = Counter("paymesh_shared_state_calls", "Calls by how they ended.", ["outcome"], registry=registry)
        self._calls = {outcome: calls.labels(outcome=outcome.value) for outcome in Outcome}
        self._seconds = Histogram(
            "paymesh_shared_state_seconds",
            "Time that a call took, whatever its end; calls not tried are left out.",
            registry=registry,
            buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
        )

    def called(self, outcome: Outcome, seconds: float) -> None:
        self._calls[outcome].inc()
        if outcome not in NOT_TRIED:
            self._seconds.observe(seconds)

    def changed(self, state: BreakerState) -> None:
        self._up.set(state is BreakerState.CLOSED)
        for one in BreakerState:
            self._breaker.labels(state=one.value).set(one is state)
        self.news.set()


async def _follow(shared: SharedState, news: asyncio.Event, servicer: health.aio.HealthServicer) -> None:
    """Keep the health service true. Only the latest state counts, however fast it changes."""
    while True:
        await news.wait()
        news.clear()
        serving = shared.state is BreakerState.CLOSED
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await servicer.set(HEALTH_SERVICE, status)
