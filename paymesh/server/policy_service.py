"""Owns how a service that works by the policy starts: the policy loaded or the start refused, then watched."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.policy.source import OnReload, PolicySource
from paymesh.server.logs import guard_crashes
from paymesh.server.policy_subscription import ControlPlane, PolicyCache, PolicySubscription
from paymesh.server.service import ServiceRuntime, add_server_arguments, run_service, server_options
from paymesh.server.startup import StartupError

EXIT_UNUSABLE = 2

Serving = Callable[
    [ServiceRuntime, PolicySource, argparse.Namespace], contextlib.AbstractAsyncContextManager[OnReload | None]
]
"""Adds the servicers, gives what is to be done with a new policy, and ends on leaving whatever it began. Raises
StartupError for flags that cannot be used."""


def add_policy_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", action="append", type=Path, required=True, help="file or folder; may repeat")


@contextlib.asynccontextmanager
async def watching(
    source: PolicySource, registry: CollectorRegistry, on_reload: OnReload | None = None
) -> AsyncIterator[None]:
    """Watch the policy while inside, and count the reloads that were refused."""
    refused = Gauge("paymesh_policy_reloads_refused", "Reloads refused since the start.", registry=registry)
    refused.set_function(lambda: source.failures)
    watcher = asyncio.create_task(source.watch(on_reload))
    try:
        yield
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


def _add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--policy", action="append", type=Path, metavar="PATH", help="file or folder; may repeat")
    add("--policy-from", metavar="HOST:PORT", help="in place of --policy: the control plane sends it (xDS)")
    add(
        "--policy-cache",
        type=Path,
        metavar="FOLDER",
        help="keeps the last accepted policy; of this process alone",
    )
    add("--policy-token", type=Path, metavar="FILE", help="holds the token that the control plane asks for")
    add("--policy-ca", type=Path, metavar="FILE", help="PEM: TLS to the control plane, whose certificate it issued")
    add("--policy-cert", type=Path, metavar="FILE", help="PEM: what this service shows (mTLS)")
    add("--policy-key", type=Path, metavar="FILE", help="PEM: its private key")


def _subscription(name: str, args: argparse.Namespace) -> tuple[PolicySubscription | None, Sequence[Path]]:
    """Whom to follow, with a first policy on disk; and where it is read. Raises StartupError."""
    if (args.policy is None) == (args.policy_from is None):
        raise StartupError("the policy comes from --policy, or from --policy-from")
    if args.policy_from is None:
        return None, args.policy
    if args.policy_cache is None:
        raise StartupError("--policy-from needs --policy-cache: what to go on with while the control plane is away")
    if (args.policy_cert is None) != (args.policy_key is None):
        raise StartupError("--policy-cert and --policy-key go together")
    control_plane = ControlPlane(args.policy_from, args.policy_token, args.policy_ca, args.policy_cert, args.policy_key)
    cache = PolicyCache(args.policy_cache, os.environ)
    subscription = PolicySubscription(f"{name}@{socket.gethostname()}:{os.getpid()}", control_plane, cache)
    subscription.first()
    return subscription, (cache.files,)


@contextlib.asynccontextmanager
async def _following(
    subscription: PolicySubscription | None, source: PolicySource, on_reload: OnReload | None
) -> AsyncIterator[None]:
    if subscription is None:
        yield
        return
    following = asyncio.create_task(subscription.run(lambda: source.poll(on_reload)))
    try:
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def run_policy_service(
    name: str,
    description: str,
    default_listen: str,
    serving: Serving,
    arguments: Sequence[str] | None = None,
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None,
) -> int:
    """Run until SIGTERM; `add_arguments` adds the service's own flags. Exit code 2: a bad policy or a taken port."""
    parser = argparse.ArgumentParser(prog=name, description=description)
    _add_policy_arguments(parser)
    add_server_arguments(parser, default_listen=default_listen)
    add_arguments(parser)
    args = parser.parse_args(arguments)
    guard_crashes(name)
    try:
        subscription, paths = _subscription(name, args)
        source = PolicySource(paths, os.environ)
    except (PolicyErrors, StartupError, OSError) as errors:
        print(errors, file=sys.stderr)  # noqa: T201 - logging is not configured yet
        return EXIT_UNUSABLE

    @contextlib.asynccontextmanager
    async def running(runtime: ServiceRuntime) -> AsyncIterator[None]:
        async with (
            serving(runtime, source, args) as on_reload,
            watching(source, runtime.metrics, on_reload),
            _following(subscription, source, on_reload),
        ):
            yield

    return run_service(server_options(args, name), running)
