"""Owns how a service that works by the policy starts: the policy loaded or the start refused, then watched."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.policy.source import OnReload, PolicySource
from paymesh.server.logs import guard_crashes
from paymesh.server.service import ServiceRuntime, add_server_arguments, run_service, server_options

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
    add_policy_argument(parser)
    add_server_arguments(parser, default_listen=default_listen)
    add_arguments(parser)
    args = parser.parse_args(arguments)
    guard_crashes(name)
    try:
        source = PolicySource(args.policy, os.environ)
    except PolicyErrors as errors:
        print(errors, file=sys.stderr)  # noqa: T201 - logging is not configured yet
        return EXIT_UNUSABLE

    @contextlib.asynccontextmanager
    async def running(runtime: ServiceRuntime) -> AsyncIterator[None]:
        async with serving(runtime, source, args) as on_reload, watching(source, runtime.metrics, on_reload):
            yield

    return run_service(server_options(args, name), running)
