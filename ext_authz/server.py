"""Owns the ext_authz service: the gRPC servicer, its metrics, its decision log, and how it starts."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from envoy.service.accesslog.v3 import als_pb2_grpc
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from envoy.service.ratelimit.v3 import rls_pb2_grpc
from prometheus_client import CollectorRegistry, Counter, Histogram

from ext_authz.admin import limits_pb2_grpc
from ext_authz.admin.service import LimitsAdmin
from ext_authz.attempts import Attempts
from ext_authz.channel_outcomes import ChannelOutcomes
from ext_authz.check_context import CheckContext, Decision, Step
from ext_authz.envoy_health import EnvoyHealth
from ext_authz.held import Held, ServiceTimes
from ext_authz.key_sets import KeySets
from ext_authz.learnt_versions import LearntVersions
from ext_authz.order_ends import OrderEnds
from ext_authz.pipeline import Stores, build_pipeline, decide
from ext_authz.rate_limit_service import RateLimitService
from ext_authz.state import State, add_state_arguments, open_state
from ext_authz.wire import read_request, write_response
from paymesh.payments.channels.guard import ChannelGuard
from paymesh.payments.channels.health import InProcessChannelHealth
from paymesh.payments.credentials.directory import PolicyKeys
from paymesh.payments.denial import Reason
from paymesh.payments.events.log import EventLog
from paymesh.payments.jose.fetch import HttpFetch
from paymesh.payments.jose.key_source import KeySources
from paymesh.payments.limits.latency_guard import LatencyGuard
from paymesh.payments.limits.override_store import follow
from paymesh.payments.limits.overrides import OverridesInForce
from paymesh.payments.limits.sizing import LimitSizes
from paymesh.payments.merchant_table.directory import TableDirectory
from paymesh.payments.policy.compiled import EventsOnError
from paymesh.payments.policy.source import OnReload, PolicySource
from paymesh.payments.shared_state.client import bound_waiting
from paymesh.payments.shared_state.redis_channel_health import RedisChannelHealth
from paymesh.payments.users.identify import UserIdentifier
from paymesh.server.access_log import AccessLogReceiver, Listener
from paymesh.server.admin_port import AdminPort, add_admin_arguments
from paymesh.server.event_log import add_event_arguments, events_of
from paymesh.server.http_fetch import AiohttpFetch
from paymesh.server.policy_service import run_policy_service
from paymesh.server.service import ServiceRuntime
from paymesh.server.trace import parse_traceparent, set_trace

_LOG = logging.getLogger(__name__)


EVENT_DEADLINE_S = 0.4
"""Below what Envoy waits for a check (`TIMEOUT` in control_plane/resources/ext_authz_filter.py)."""


class Metrics:
    """What ext_authz counts. Labels come from the policy and from enums: bounded, and never a caller's text."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.decisions = Counter(
            "paymesh_ext_authz_decisions", "Requests decided.", ["route", "decision", "reason"], registry=registry
        )
        self.seconds = Histogram(
            "paymesh_ext_authz_check_seconds",
            "Time from the CheckRequest to its answer.",
            registry=registry,
            buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5),
        )

        self.shadowed = Counter(
            "paymesh_ext_authz_limits_shadowed",
            "Requests that a limit in shadow mode would have refused.",
            ["limit"],
            registry=registry,
        )
        self.without_store = Counter(
            "paymesh_ext_authz_limits_without_store",
            "Requests that passed by a limit's on_error, for shared state could not be asked.",
            ["limit"],
            registry=registry,
        )

    def count(self, decision: Decision, seconds: float) -> None:
        route = decision.context.route
        for limit in decision.context.limits_shadowed:
            self.shadowed.labels(limit=limit).inc()
        for limit in decision.context.limits_without_store:
            self.without_store.labels(limit=limit).inc()
        self.decisions.labels(
            route="none" if route is None else route.name,
            decision="allow" if decision.denial is None else "deny",
            reason="" if decision.denial is None else str(decision.denial.reason),
        ).inc()
        self.seconds.observe(seconds)


class Authorization(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc]
    """`envoy.service.auth.v3.Authorization`: one unary call a request."""

    def __init__(self, source: PolicySource, steps: Sequence[Step], held: Held, metrics: Metrics) -> None:
        self._source = source
        self._steps = steps
        self._held = held
        self._metrics = metrics

    async def Check(  # noqa: N802 - the method's name in the .proto
        self,
        message: external_auth_pb2.CheckRequest,
        call: grpc.aio.ServicerContext[external_auth_pb2.CheckRequest, external_auth_pb2.CheckResponse],
    ) -> external_auth_pb2.CheckResponse:
        began_ns = time.monotonic_ns()
        request = read_request(message)
        trace_parent = _trace_parent(call) or next(iter(request.headers.get("traceparent", ())), None)
        trace = parse_traceparent(trace_parent)
        set_trace(trace)
        context = CheckContext(
            request=request, policy=self._source.current, now_s=int(time.time()), monotonic_ns=began_ns
        )
        bound_waiting()
        answered: Decision | None = None
        try:
            decision = await decide(self._steps, context)
            response = write_response(decision, None if trace is None else trace_parent)
            answered = decision
        finally:
            if _may_hold_for_nothing(answered):
                self._held.void(request.request_id)
        elapsed_s = (time.monotonic_ns() - began_ns) / 1e9
        self._metrics.count(decision, elapsed_s)
        _log_decision(decision, elapsed_s)
        return response


def _may_hold_for_nothing(answered: Decision | None) -> bool:
    """Whether a request that does not leave may have taken something. None: it got no answer, wherever it was."""
    if answered is None:
        return True
    denial = answered.denial
    return denial is not None and (bool(answered.context.held) or denial.reason is Reason.UNAVAILABLE)


def _trace_parent(call: grpc.aio.ServicerContext[Any, Any]) -> str | None:
    """Of Envoy's own span, where it traces: that one is in the collector. The client's may be anything."""
    found = next((value for name, value in call.invocation_metadata() or () if name == "traceparent"), None)
    return found if isinstance(found, str) else None


def _log_decision(decision: Decision, elapsed_s: float) -> None:
    context = decision.context
    fields = {
        "request_id": context.request.request_id,
        "method": context.request.method,
        "route": None if context.route is None else context.route.name,
        "merchant": None if context.caller is None else context.caller.merchant.id,
        "decision": "allow" if decision.denial is None else "deny",
        "reason": None if decision.denial is None else str(decision.denial.reason),
        "policy": context.policy.version,
        "microseconds": round(elapsed_s * 1e6),
        "steps": [{"step": record.step, "verdict": record.verdict, "why": record.why} for record in decision.steps],
    }
    _LOG.info("decision", extra={"fields": fields})


@contextlib.asynccontextmanager
async def _serving(
    runtime: ServiceRuntime, source: PolicySource, args: argparse.Namespace
) -> AsyncIterator[OnReload | None]:
    async with contextlib.aclosing(AiohttpFetch()) as fetch, contextlib.aclosing(KeySets(fetch)) as key_sets:
        # Before the first token comes: a fetch may take longer than Envoy waits for a check.
        await key_sets.fetch_those_of(source.current)
        async with (
            open_state(args, runtime.metrics, runtime.health.servicer) as state,
            events_of(args, runtime.metrics, EVENT_DEADLINE_S, lambda route: _may_wait(source, route)) as events,
            _attempts(events, runtime.metrics) as attempts,
            _envoy_health(args.envoy_health_events, runtime.metrics, source) as is_down,
            _channels(state, source, is_down) as channels,
            _stores(state, fetch, key_sets.sources, attempts, channels) as stores,
        ):
            held = Held(stores.limits, lambda: source.current, runtime.metrics)
            servicer = Authorization(source, build_pipeline(stores), held, Metrics(runtime.metrics))
            external_auth_pb2_grpc.add_AuthorizationServicer_to_server(servicer, runtime.server)
            times = ServiceTimes(stores.sizes.latencies, lambda: source.current, runtime.metrics)
            outcomes = ChannelOutcomes(channels, lambda: source.current, runtime.metrics)
            versions = LearntVersions(stores.order_versions, lambda: source.current, runtime.metrics)
            ends_of_orders = OrderEnds(stores.orders, runtime.metrics)
            # An order's version before its end: once an attempt is over its repeat may come, and asks for the version.
            listeners: list[Listener] = [attempts, versions, ends_of_orders, held, times, outcomes]
            ends = AccessLogReceiver(listeners, runtime.metrics)
            als_pb2_grpc.add_AccessLogServiceServicer_to_server(ends, runtime.server)
            limiter = RateLimitService(stores.limits, stores.sizes, lambda: source.current, runtime.metrics)
            rls_pb2_grpc.add_RateLimitServiceServicer_to_server(limiter, runtime.server)
            try:
                async with _admin(args, stores, state, source):
                    yield key_sets.on_reload
            finally:
                await ends.close()
                await held.close()
                await versions.close()


def _admin(
    args: argparse.Namespace, stores: Stores, state: State, source: PolicySource
) -> contextlib.AbstractAsyncContextManager[None]:
    """The admin API on an address of its own: whoever may check requests may not change limits. Raises StartupError."""
    admin = LimitsAdmin(stores.limits, stores.sizes, state.overrides, lambda: source.current)
    return AdminPort(args).serving(lambda server: limits_pb2_grpc.add_LimitsServicer_to_server(admin, server))


@contextlib.asynccontextmanager
async def _envoy_health(
    file: Path | None, registry: CollectorRegistry, source: PolicySource
) -> AsyncIterator[Callable[[str], bool]]:
    if file is None:
        yield lambda _: False
        return
    health = EnvoyHealth(file, lambda: source.current)
    registry.register(health)
    reading = asyncio.create_task(health.run())
    try:
        yield health.is_down
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


@contextlib.asynccontextmanager
async def _channels(state: State, source: PolicySource, is_down: Callable[[str], bool]) -> AsyncIterator[ChannelGuard]:
    store = InProcessChannelHealth() if state.shared is None else RedisChannelHealth(state.shared)
    guard = ChannelGuard(store, lambda: source.current.channel_watches, is_down=is_down)
    running = asyncio.create_task(guard.run())
    try:
        yield guard
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def _stores(
    state: State, fetch: HttpFetch, key_sources: KeySources, attempts: Attempts, channels: ChannelGuard
) -> AsyncIterator[Stores]:
    directory = TableDirectory(lambda policy: policy.merchant_table, os.environ, PolicyKeys(key_sources))
    users = UserIdentifier(fetch, key_sources)
    sizes = LimitSizes(OverridesInForce(), LatencyGuard(state.latencies))
    changing = [
        asyncio.create_task(sizes.latencies.run()),
        asyncio.create_task(follow(state.overrides, sizes.overrides, lambda: int(time.time()))),
    ]
    try:
        yield Stores(
            directory,
            state.nonces,
            state.orders,
            state.order_versions,
            state.limits,
            sizes,
            users,
            attempts,
            channels,
        )
    finally:
        for task in changing:
            task.cancel()
        await asyncio.gather(*changing, return_exceptions=True)
        await users.close()
        await directory.close()


def _may_wait(source: PolicySource, route: str) -> bool:
    found = source.current.routes_by_name.get(route)
    return found is not None and found.events_on_error is EventsOnError.SPOOL


@contextlib.asynccontextmanager
async def _attempts(events: EventLog | None, registry: CollectorRegistry) -> AsyncIterator[Attempts]:
    attempts = Attempts(events, registry)
    reaping = asyncio.create_task(attempts.reap())
    try:
        yield attempts
    finally:
        reaping.cancel()
        await asyncio.gather(reaping, return_exceptions=True)
        await attempts.close()


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_state_arguments(parser)
    add_event_arguments(parser)
    parser.add_argument(
        "--envoy-health-events",
        type=Path,
        metavar="FILE",
        help="where Envoy writes its health-check events (control_plane --health-events), if on this machine: channels "
        "without a healthy host are left out",
    )
    add_admin_arguments(parser)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Exit code 2: a bad policy or a taken port."""
    return run_policy_service(
        "ext_authz",
        "Decides every request before Envoy routes it.",
        "127.0.0.1:9001",
        _serving,
        arguments,
        _add_arguments,
    )
