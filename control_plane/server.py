"""Owns the control plane's start: xDS on one address, the admin API on another, the policy watched, metrics."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from envoy.service.accesslog.v3 import als_pb2_grpc
from envoy.service.load_stats.v3 import lrs_pb2_grpc

from control_plane import flags
from control_plane.admin import admin_pb2_grpc
from control_plane.admin.service import Admin
from control_plane.config import config_pb2_grpc
from control_plane.config.centre import ConfigCentre, seeded
from control_plane.config.service import ConfigService
from control_plane.config.store import ConfigStore
from control_plane.discovery.endpoint_files import EndpointFiles
from control_plane.discovery.follow import Discovery
from control_plane.gateway import Gateway
from control_plane.metrics import Metrics
from control_plane.policy_distribution import Admission, PolicyDistribution
from control_plane.releases import releases_pb2_grpc
from control_plane.releases.assembly import Releases, now_s
from control_plane.releases.observed import Observed
from control_plane.releases.store import ReleaseStore
from control_plane.resources.names import CLUSTER_TYPE
from control_plane.weights import WeightStore
from control_plane.xds.last_good import LastGood, Saving
from control_plane.xds.load_reports import LoadReporting, LoadReports
from control_plane.xds.server import AggregatedDiscovery
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.policy.source import PolicySource
from paymesh.server.access_log import AccessLogReceiver
from paymesh.server.admin_port import AdminPort
from paymesh.server.logs import guard_crashes
from paymesh.server.policy_resource import TYPE_URL
from paymesh.server.policy_service import EXIT_UNUSABLE, watching
from paymesh.server.policy_subscription import PolicyCache
from paymesh.server.service import ServiceRuntime, run_service, server_options
from paymesh.server.startup import StartupError

_LOG = logging.getLogger(__name__)
_TICK_S = 0.25


@contextlib.asynccontextmanager
async def _running(
    runtime: ServiceRuntime,
    source: PolicySource,
    accepted: PolicyCache,
    gateway: Gateway,
    admission: Admission,
    kept: Configurations | None,
    admin: AdminPort,
    moving: Moving,
) -> AsyncIterator[None]:
    metrics = Metrics(runtime.metrics, gateway)
    distribution = PolicyDistribution(source.documents, admission, runtime.draining)
    gateway.before_publish = lambda _: distribution.give(source.newest.documents)
    gateway.after_rollback = distribution.take_back
    others = {TYPE_URL: distribution.stream}
    xds = AggregatedDiscovery(gateway.fleet, metrics.result, runtime.draining, others)
    runtime.server.add_generic_rpc_handlers((xds.handlers(),))
    reports = LoadReports()
    runtime.metrics.register(reports)
    lrs_pb2_grpc.add_LoadReportingServiceServicer_to_server(LoadReporting(reports, runtime.draining), runtime.server)
    observed = Observed(lambda: gateway.policy, now_s)
    runtime.metrics.register(observed)
    receiver = AccessLogReceiver([observed], runtime.metrics)
    als_pb2_grpc.add_AccessLogServiceServicer_to_server(receiver, runtime.server)
    releases = Releases(gateway, moving.store, observed, reports, runtime.metrics, moving.receipts)
    discovery = Discovery(gateway, [EndpointFiles()])

    async def use(policy: Policy) -> None:
        await gateway.use_policy(policy)
        await asyncio.to_thread(_keep, accepted, source)

    centre = None if kept is None else ConfigCentre(kept.store, kept.folder, source, use)

    def add(server: grpc.aio.Server) -> None:
        admin_pb2_grpc.add_AdminServicer_to_server(
            Admin(gateway, source, discovery, releases.runner.nothing_moves, distribution), server
        )
        releases_pb2_grpc.add_ReleasesServicer_to_server(releases.service, server)
        config_pb2_grpc.add_ConfigCentreServicer_to_server(ConfigService(gateway, centre), server)

    work = [_follow(gateway, metrics, reports, observed), _tick(gateway), discovery.run(), releases.run()]
    if not source.last_problems:
        # First: once an Envoy has it, a start with broken files must find it, too.
        await asyncio.to_thread(_keep, accepted, source)
    tasks = [asyncio.create_task(one) for one in work]
    try:
        async with admin.serving(add), watching(source, runtime.metrics, use):
            yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _keep(accepted: PolicyCache, source: PolicySource) -> None:
    """What to start with when the files are broken then. Blocking."""
    try:
        accepted.accept(source.newest.documents)
    except (PolicyErrors, OSError) as error:
        # Such as files that the policy names beside itself: they are not kept, and it is nothing without them.
        _LOG.warning("the policy is not kept for a start without it", extra={"fields": {"why": str(error)[:500]}})


async def _follow(gateway: Gateway, metrics: Metrics, reports: LoadReports, observed: Observed) -> None:
    with gateway.fleet.changes() as changed:
        while True:
            metrics.weights()
            observed.keep(gateway.policy)
            reports.keep(frozenset(gateway.fleet.newest.common.resources[CLUSTER_TYPE]))
            await changed.wait()
            changed.clear()


async def _tick(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        gateway.fleet.tick()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Exit code 2: a bad policy, a taken port, or weights that the policy contradicts."""
    args = flags.parser().parse_args(arguments)
    guard_crashes("control_plane")
    with contextlib.ExitStack() as stack:
        try:
            settings = flags.gateway_settings(args)
            admission = flags.admission(args)
            args.admin_audit = args.admin_audit or args.state / "audit.sqlite"
            admin = AdminPort(args)
            kept = _configurations(args, stack)
            accepted = PolicyCache(args.state / "accepted", os.environ)
            if kept is None:
                usable = accepted.documents() is not None
                source = PolicySource(args.policy, os.environ, instead=accepted.files if usable else None)
            else:
                source = PolicySource([kept.folder.files], os.environ)
            store = stack.enter_context(contextlib.closing(WeightStore(args.state / "weights.sqlite")))
            last_good = LastGood(args.state / "last_good.snapshot")
            saving = stack.enter_context(Saving(last_good))
            releases = stack.enter_context(contextlib.closing(ReleaseStore(args.state / "releases.sqlite")))
            releases.all()  # what cannot be read is told at once
            moving = Moving(releases, args.state / "receipts")
            gateway = Gateway(
                source.current,
                store,
                settings,
                validator=flags.validator(args),
                last_good=last_good.load(),
                on_good=saving.save,
            )
        except (PolicyErrors, StartupError, ValueError, OSError, sqlite3.Error) as errors:
            print(errors, file=sys.stderr)  # noqa: T201 - logging is not configured yet
            return EXIT_UNUSABLE
        return run_service(
            server_options(args, "control_plane"),
            lambda runtime: _running(runtime, source, accepted, gateway, admission, kept, admin, moving),
        )


@dataclass(frozen=True, slots=True)
class Moving:
    """Where releases are kept, and what is written of them in the end."""

    store: ReleaseStore
    receipts: Path


@dataclass(frozen=True, slots=True)
class Configurations:
    """Where the configuration centre keeps what was applied, and where what is in force is read."""

    store: ConfigStore
    folder: PolicyCache


def _configurations(args: argparse.Namespace, stack: contextlib.ExitStack) -> Configurations | None:
    if not args.config_centre:
        return None
    folder = PolicyCache(args.state / "policy", os.environ)
    store = stack.enter_context(contextlib.closing(ConfigStore(args.state / "configurations.sqlite")))
    seeded(store, folder, lambda: load(args.policy, os.environ).documents)
    return Configurations(store, folder)
