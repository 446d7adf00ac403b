"""Owns `paymesh status` and `paymesh set-weight`: the admin API from a terminal."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import grpc
from google.protobuf.json_format import MessageToDict

from control_plane.admin import admin_pb2, admin_pb2_grpc
from paymesh.cli.admin_channel import UnusableFile, add_admin_arguments, admin_channel
from paymesh.cli.verbs import Verbs
from paymesh.payments.percent import format_percent, parse_percent

DEFAULT_ADMIN = "127.0.0.1:18001"
_CALL_SECONDS = 5.0
_WATCH_SECONDS = 1.0
_CLEAR = "\x1b[H\x1b[2J"
"""Cursor home, screen cleared (ECMA-48: CUP, ED)."""


def add_status_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("status", help="nodes, what each acknowledged or refused, set and actual weights")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--watch", action="store_true", help="again each second, until ^C")
    add_admin_arguments(parser, DEFAULT_ADMIN, "of the control plane")
    parser.set_defaults(run=_run_status)


def add_set_weight_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("set-weight", help="set a service's traffic split, audited")
    parser.add_argument("service")
    parser.add_argument(
        "weights", nargs="+", metavar="VERSION=PERCENT", help="steps of 0.01; the sum is 100; others get 0"
    )
    parser.add_argument("--reason", required=True, help="kept with the change")
    parser.add_argument("--actor", default=logged_in(), help="who; default: the user logged in")
    parser.add_argument(
        "--wait", type=int, default=10, metavar="SECONDS", help="until the nodes confirmed it (default 10; 0: do not)"
    )
    add_admin_arguments(parser, DEFAULT_ADMIN, "of the control plane")
    parser.set_defaults(run=lambda args: _call(args, lambda stub: _set_weight(stub, args)))


async def set_weights_and_wait(
    admin: str, service: str, weights: Mapping[str, int], *, reason: str, actor: str, timeout_s: float = 10.0
) -> None:
    """Set hundredths of a percent by version; returns when every node has them. Raises RuntimeError, AioRpcError."""
    async with grpc.aio.insecure_channel(admin) as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        await _set(stub, service, weights, reason, actor)
        if not await _confirmed(stub, service, timeout_s):
            raise RuntimeError(f"the nodes have not confirmed the weights of {service} after {timeout_s:g} s")


def logged_in() -> str:
    """Who is logged in. A container may run as a number that no user has: then the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def parse_weights(texts: list[str]) -> dict[str, int]:
    """`["v1=99.75", "v2=0.25"]` -> hundredths of a percent. Raises ValueError."""
    weights: dict[str, int] = {}
    for text in texts:
        version, equals, percent = text.partition("=")
        weight = parse_percent(percent)
        if not equals or not version or weight is None:
            raise ValueError(f"{text!r} is not VERSION=PERCENT with at most two decimals, such as v2=0.25")
        if version in weights:
            raise ValueError(f"{version} is named twice")
        weights[version] = weight
    return weights


def _call(args: argparse.Namespace, act: Callable[[admin_pb2_grpc.AdminStub], Awaitable[int]]) -> int:
    async def inside() -> int:
        async with admin_channel(args) as channel:
            return await act(admin_pb2_grpc.AdminStub(channel))

    try:
        return asyncio.run(inside())
    except UnusableFile as error:
        print(error, file=sys.stderr)
        return 2
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            print(f"no control plane answers on {args.admin} (--admin names another address)", file=sys.stderr)
        else:
            print(error.details(), file=sys.stderr)
        return 2


async def _set_weight(stub: admin_pb2_grpc.AdminStub, args: argparse.Namespace) -> int:
    try:
        weights = parse_weights(args.weights)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    answer = await _set(stub, args.service, weights, args.reason, args.actor)
    print(f"{args.service}: {_split(answer.before)} -> {_split(answer.after)}")
    if not args.wait:
        return 0
    if await _confirmed(stub, args.service, args.wait):
        print("confirmed by every node")
        return 0
    print(f"recorded, but not confirmed by every node within {args.wait} s: see `paymesh status`", file=sys.stderr)
    return 1


async def _set(
    stub: admin_pb2_grpc.AdminStub, service: str, weights: Mapping[str, int], reason: str, actor: str
) -> admin_pb2.SetWeightResponse:
    request = admin_pb2.SetWeightRequest(service=service, weights=dict(weights), reason=reason, actor=actor)
    answer: admin_pb2.SetWeightResponse = await stub.SetWeight(request, timeout=_CALL_SECONDS)
    return answer


async def _confirmed(stub: admin_pb2_grpc.AdminStub, service: str, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while True:
        status: admin_pb2.StatusResponse = await stub.Status(admin_pb2.StatusRequest(), timeout=_CALL_SECONDS)
        versions = [version for item in status.services if item.service == service for version in item.versions]
        if all(v.HasField("actual_weight") and v.actual_weight == v.set_weight for v in versions):
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)


def _run_status(args: argparse.Namespace) -> int:
    if not args.watch:
        return _call(args, lambda stub: _status(stub, args))
    while True:
        # A connection each time: one that waits to reconnect would show a control plane as gone after it came back.
        if sys.stdout.isatty() and args.output == "table":
            print(_CLEAR, end="")
        _call(args, lambda stub: _status(stub, args))
        if args.output == "table":
            print()
        sys.stdout.flush()
        time.sleep(_WATCH_SECONDS)


async def _status(stub: admin_pb2_grpc.AdminStub, args: argparse.Namespace) -> int:
    status: admin_pb2.StatusResponse = await stub.Status(admin_pb2.StatusRequest(), timeout=_CALL_SECONDS)
    if args.output == "json":
        # Watched, each state is one line, for programs that read line by line.
        indent = None if args.watch else 2
        print(json.dumps(MessageToDict(status, preserving_proto_field_name=True), indent=indent))
        return 0
    print(f"policy {status.policy_version}")
    for problem in status.policy_problems:
        print(f"  refused: {problem}")
    if status.rolled_back:
        print(f"  rolled back: {status.rolled_back}")
    for cluster, problem in sorted(status.discovery_problems.items()):
        print(f"  hosts of {cluster} stay as they were: {problem}")
    print("\nNODE                 TYPE                    SENT              ACKED             NACK")
    for node in status.nodes:
        for item in node.types:
            nack = f"{item.nacked_version} {item.nack_message}" if item.nacked_version else "-"
            row = f"{node.id:<20} {item.type:<23} {item.sent_version:<17} {item.acked_version or '-':<17} {nack}"
            print(row)
        if node.problem:
            print(f"{node.id:<20} gets nothing: {node.problem}")
        if node.held:
            print(f"{'':<20} held on its last good configuration: {node.held}")
    if not status.nodes:
        print("(none connected)")
    if status.subscribers:
        print("\nSERVICE THAT GETS THE POLICY              SENT              ACKED")
    for one in status.subscribers:
        print(f"{one.id:<41} {one.sent_version or '-':<17} {one.acked_version or '-':<17} {one.nack_message}")
    unconfirmed = "differs" if status.nodes else "unknown"
    print("\nSERVICE              VERSION       SET      ACTUAL")
    for service in status.services:
        for version in service.versions:
            actual = _percent(version.actual_weight) if version.HasField("actual_weight") else unconfirmed
            print(f"{service.service:<20} {version.version:<10} {_percent(version.set_weight):>7} {actual:>11}")
    return 0


def _split(weights: Iterable[admin_pb2.VersionWeight]) -> str:
    return " ".join(f"{item.version}={_percent(item.weight)}" for item in weights)


def _percent(weight: int) -> str:
    return f"{format_percent(weight)}%"
