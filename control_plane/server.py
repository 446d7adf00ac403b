"""Owns the control plane's start: xDS on one address, the admin API on another, the policy watched, metrics."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from envoy.service.discovery.v3 import ads_pb2_grpc
from prometheus_client import CollectorRegistry, Counter, Gauge

from control_plane.admin import admin_pb2_grpc
from control_plane.admin.service import Admin
from control_plane.gateway import Gateway
from control_plane.settings import GatewaySettings, GatewayTls
from control_plane.weights import WeightStore
from control_plane.xds.server import AggregatedDiscovery
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.policy.source import PolicySource
from paymesh.server.binding import bind, new_server
from paymesh.server.logs import guard_crashes
from paymesh.server.policy_service import EXIT_UNUSABLE, add_policy_argument, watching
from paymesh.server.service import ServiceRuntime, add_server_arguments, run_service, server_options
from paymesh.server.startup import StartupError, host_and_port


class Metrics:
    """What the control plane counts."""

    def __init__(self, registry: CollectorRegistry, gateway: Gateway) -> None:
        self._results = Counter(
            "paymesh_xds_results", "Answers of Envoys to what they were sent.", ["type", "result"], registry=registry
        )
        nodes = Gauge("paymesh_xds_nodes", "Connected Envoys.", registry=registry)
        nodes.set_function(lambda: len(gateway.nodes))
        self._gateway = gateway
        self._weights = Gauge(
            "paymesh_set_weight_ratio", "Set weight, 0 to 1.", ["service", "version"], registry=registry
        )

    def result(self, type_name: str, acknowledged: bool) -> None:
        self._results.labels(type=type_name, result="ack" if acknowledged else "nack").inc()

    def weights(self) -> None:
        """Take over the weights in force."""
        self._weights.clear()
        for service, split in self._gateway.weights.items():
            for version, weight in split.items():
                self._weights.labels(service=service, version=version).set(weight / 10_000)


@contextlib.asynccontextmanager
async def _running(
    runtime: ServiceRuntime, source: PolicySource, gateway: Gateway, admin_listen: str
) -> AsyncIterator[None]:
    metrics = Metrics(runtime.metrics, gateway)
    discovery = AggregatedDiscovery(gateway.cache, gateway.nodes, metrics.result, runtime.draining)
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(discovery, runtime.server)
    admin_server = new_server()
    admin_pb2_grpc.add_AdminServicer_to_server(Admin(gateway, source), admin_server)
    bind(admin_server, admin_listen, None)
    await admin_server.start()
    follower = asyncio.create_task(_follow(gateway, metrics))
    try:
        async with watching(source, runtime.metrics, gateway.use_policy):
            yield
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        await admin_server.stop(grace=0.5)


async def _follow(gateway: Gateway, metrics: Metrics) -> None:
    with gateway.cache.changes() as changed:
        while True:
            metrics.weights()
            await changed.wait()
            changed.clear()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Exit code 2: a bad policy, a taken port, or weights that the policy contradicts."""
    args = _parser().parse_args(arguments)
    guard_crashes("control_plane")
    with contextlib.ExitStack() as stack:
        try:
            settings = GatewaySettings(
                _ip_and_port(args.gateway),
                _workers(args.ext_authz),
                _workers(args.ext_proc),
                args.access_log,
                _gateway_tls(args),
            )
            source = PolicySource(args.policy, os.environ)
            store = stack.enter_context(contextlib.closing(WeightStore(args.state / "weights.sqlite")))
            gateway = Gateway(source.current, store, settings)
        except (PolicyErrors, StartupError, ValueError, OSError, sqlite3.Error) as errors:
            print(errors, file=sys.stderr)  # noqa: T201 - logging is not configured yet
            return EXIT_UNUSABLE
        return run_service(
            server_options(args, "control_plane"),
            lambda runtime: _running(runtime, source, gateway, args.admin_listen),
        )


def _gateway_tls(args: argparse.Namespace) -> GatewayTls | None:
    files = [args.gateway_tls_cert, args.gateway_tls_key, args.gateway_tls_client_ca]
    if not any(files):
        return None
    if args.gateway_tls_cert is None or args.gateway_tls_key is None:
        raise StartupError("--gateway-tls-cert and --gateway-tls-key go together; --gateway-tls-client-ca needs both")
    return GatewayTls(*files)


def _workers(addresses: str) -> tuple[tuple[str, int], ...]:
    return tuple(_ip_and_port(address) for address in addresses.split(","))


def _ip_and_port(address: str) -> tuple[str, int]:
    """Envoy resolves no names here: it would refuse the listener, or the cluster."""
    host, port = host_and_port(address)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise StartupError(f"{address}: not IP:PORT") from None
    return host, port


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="control_plane", description="Turns the policy into what Envoy runs.")
    add = parser.add_argument
    add_policy_argument(parser)
    add("--admin-listen", default="127.0.0.1:18001", metavar="HOST:PORT", help="admin API: keep it on loopback")
    add("--gateway", default="127.0.0.1:8080", metavar="IP:PORT", help="where Envoy listens for merchants")
    add("--gateway-tls-cert", metavar="FILE", help="PEM on Envoy's machine: merchants use TLS, with this certificate")
    add("--gateway-tls-key", metavar="FILE", help="PEM on Envoy's machine: its private key")
    add(
        "--gateway-tls-client-ca",
        metavar="FILE",
        help="PEM on Envoy's machine: what issued merchants' certificates",
    )
    add("--ext-authz", default="127.0.0.1:9001", metavar="IP:PORT,...", help="where Envoy finds ext_authz, each worker")
    add("--ext-proc", default="127.0.0.1:9002", metavar="IP:PORT,...", help="where Envoy finds ext_proc, each worker")
    add("--access-log", default="/dev/stdout", metavar="FILE", help="Envoy's access log")
    add("--state", type=Path, default=Path(".paymesh/data"), help="folder of the recorded weights")
    add_server_arguments(parser, default_listen="127.0.0.1:18000")
    return parser
