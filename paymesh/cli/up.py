"""Owns `paymesh up`: runs the local stack until Ctrl-C, and the flags that every use of the stack shares."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import fields
from pathlib import Path

from paymesh.cli.stack.local_stack import DEMO_POLICY, LocalStack, StackError, StackOptions
from paymesh.cli.stack.ports import Ports, flag
from paymesh.cli.stack.processes import LOG_LEVELS
from paymesh.cli.verbs import Verbs
from paymesh.server.envoy_binary import EnvoyNotFound


def add_up_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("up", help="run the gateway with sample services until Ctrl-C")
    add_stack_arguments(parser)
    parser.set_defaults(run=_run)


def add_stack_arguments(parser: argparse.ArgumentParser) -> None:
    """Policy, run folder and one flag a port."""
    parser.add_argument("--policy", action="append", type=Path, help="policy file or folder; may repeat")
    parser.add_argument("--run-dir", type=Path, default=Path(".paymesh"), help="keys, logs and data (default .paymesh)")
    parser.add_argument(
        "--log-level", choices=LOG_LEVELS, default="info", help="of every process; Envoy prints no request at any level"
    )
    for field in fields(Ports):
        parser.add_argument(
            flag(field.name), type=_port, default=field.default, metavar="PORT", help=f"default {field.default}"
        )


def stack_options(args: argparse.Namespace) -> StackOptions:
    ports = Ports(**{field.name: getattr(args, f"{field.name}_port") for field in fields(Ports)})
    # The demo's policy is part of the checkout, not of the installed package.
    policy = args.policy or ([DEMO_POLICY] if DEMO_POLICY.exists() else [])
    return StackOptions(tuple(policy), args.run_dir, ports, log_level=args.log_level)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def run_stack(options: StackOptions, act: Callable[[LocalStack], Awaitable[int]]) -> int:
    """Start the stack, wait until it is ready, act, stop it. SIGTERM and SIGINT end the act; its exit code, else 2."""
    try:
        return asyncio.run(_run_stack(options, act))
    except (StackError, EnvoyNotFound) as error:
        print(error, file=sys.stderr)
        return 2


async def _run_stack(options: StackOptions, act: Callable[[LocalStack], Awaitable[int]]) -> int:
    task = asyncio.ensure_future(_inside(options, act))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Once: the second Ctrl-C must not cut the stopping short and leave processes behind.
        loop.add_signal_handler(number, _cancel_once, task)
    try:
        return await task
    except asyncio.CancelledError:
        return 0


def _cancel_once(task: asyncio.Task[int]) -> None:
    if not task.cancelling():
        print("stopping ...", flush=True)
        task.cancel()


async def _inside(options: StackOptions, act: Callable[[LocalStack], Awaitable[int]]) -> int:
    async with LocalStack(options) as stack:
        await stack.ready()
        return await act(stack)


def _run(args: argparse.Namespace) -> int:
    return run_stack(stack_options(args), _serve)


async def _serve(stack: LocalStack) -> int:
    print("paymesh is up (Ctrl-C stops it):")
    for name, address in stack.addresses().items():
        print(f"  {name:<24} {address}")
    sys.stdout.flush()
    await asyncio.Event().wait()
    return 0
