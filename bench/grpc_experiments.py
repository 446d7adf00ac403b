"""Owns one measurement: what the event engine costs a grpc.aio server, in CPU time a unary call.

    python bench/grpc_experiments.py

One server process a setting; all take the same calls in turn, in a new order each round, so that a busy machine hits
them alike. CPU time is the server process's own (user and system), from `getrusage`. With one caller the server sleeps
between calls and wakes for each, with many it does not: both are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from importlib.metadata import version

import grpc

_PAYLOAD = bytes(1024)
_CALL = "/bench.Bench/Call"
_CPU = "/bench.Bench/Cpu"
CALLERS = (1, 16)
VARIABLE = "GRPC_EXPERIMENTS"
SETTINGS = {
    "nothing (variable unset)": None,
    "client, listener": "-event_engine_client,-event_engine_listener",
    # grpcio 1.85 says "Unknown experiment" to the third at every start.
    "client, listener, dns": "-event_engine_client,-event_engine_listener,-event_engine_dns",
}


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers bytes with bytes: what is measured is grpc, not protobuf and not us."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        behaviour = {_CALL: _echo, _CPU: _cpu}.get(details.method)
        return None if behaviour is None else grpc.unary_unary_rpc_method_handler(behaviour)


async def _echo(request: bytes, _: object) -> bytes:
    return request[:64]


async def _cpu(_: bytes, __: object) -> bytes:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return repr(used.ru_utime + used.ru_stime).encode()


async def _serve() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([_Handler()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


@contextlib.asynccontextmanager
async def _server(experiments: str | None) -> AsyncIterator[grpc.aio.Channel]:
    environ = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if experiments is not None:
        environ[VARIABLE] = experiments
    process = subprocess.Popen([sys.executable, __file__, "--serve"], env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        async with grpc.aio.insecure_channel(f"127.0.0.1:{process.stdout.readline().strip()}") as channel:
            yield channel
    finally:
        process.kill()
        process.wait()


async def _microseconds_a_call(channel: grpc.aio.Channel, callers: int, seconds: float) -> float:
    """CPU microseconds of the server a call, over `seconds` of calls, each caller sending one after the other."""
    call, cpu = channel.unary_unary(_CALL), channel.unary_unary(_CPU)
    before, until, calls = float(await cpu(b"")), time.monotonic() + seconds, 0

    async def caller() -> None:
        nonlocal calls
        while time.monotonic() < until:
            await call(_PAYLOAD)
            calls += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    return (float(await cpu(b"")) - before) / calls * 1e6


async def _measure(rounds: int, seconds: float) -> None:
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, grpcio {version('grpcio')}"
        f"; {rounds} rounds of {seconds} s a setting, {len(_PAYLOAD)} bytes a request"
    )
    async with contextlib.AsyncExitStack() as servers:
        channels = {name: await servers.enter_async_context(_server(value)) for name, value in SETTINGS.items()}
        for channel in channels.values():
            await _microseconds_a_call(channel, CALLERS[-1], 1)  # warm
        for callers in CALLERS:
            _report(callers, await _rounds(channels, callers, rounds, seconds))


async def _rounds(
    channels: dict[str, grpc.aio.Channel], callers: int, rounds: int, seconds: float
) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {name: [] for name in channels}
    for _ in range(rounds):
        for name in random.sample(list(channels), len(channels)):
            figures[name].append(await _microseconds_a_call(channels[name], callers, seconds))
    return figures


def _report(callers: int, figures: dict[str, list[float]]) -> None:
    for name, found in figures.items():
        print(
            f"{callers:3} callers, event engine off for {name:24}: {statistics.median(found):4.0f} us CPU a call"
            f" ({min(found):.0f} to {max(found):.0f})"
        )


def main() -> None:
    """Measure and print; with `--serve`, be the server."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.7, help="of each round and setting")
    args = parser.parse_args()
    asyncio.run(_serve() if args.serve else _measure(args.rounds, args.seconds))


if __name__ == "__main__":
    main()
