"""Owns `paymesh status`: nodes, what they acknowledged, set and actual weights."""

from __future__ import annotations

import argparse
import json
import sys
import time

import grpc
from google.protobuf.json_format import MessageToDict

from control_plane.admin import admin_pb2, admin_pb2_grpc
from paymesh.cli.admin_call import CALL_SECONDS, DEFAULT_ADMIN, call_admin
from paymesh.cli.admin_channel import add_admin_arguments
from paymesh.cli.verbs import Verbs
from paymesh.payments.percent import format_percent

_WATCH_SECONDS = 1.0
_CLEAR = "\x1b[H\x1b[2J"
"""Cursor home, screen cleared (ECMA-48: CUP, ED)."""


def add_status_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("status", help="nodes, what each acknowledged or refused, set and actual weights")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--watch", action="store_true", help="again each second, until ^C")
    add_admin_arguments(parser, DEFAULT_ADMIN, "of the control plane")
    parser.set_defaults(run=_run_status)


def _run_status(args: argparse.Namespace) -> int:
    if not args.watch:
        return call_admin(args, lambda channel: _status(channel, args))
    while True:
        # A connection each time: one that waits to reconnect would show a control plane as gone after it came back.
        if sys.stdout.isatty() and args.output == "table":
            print(_CLEAR, end="")
        call_admin(args, lambda channel: _status(channel, args))
        if args.output == "table":
            print()
        sys.stdout.flush()
        time.sleep(_WATCH_SECONDS)


async def _status(channel: grpc.aio.Channel, args: argparse.Namespace) -> int:
    stub = admin_pb2_grpc.AdminStub(channel)
    status: admin_pb2.StatusResponse = await stub.Status(admin_pb2.StatusRequest(), timeout=CALL_SECONDS)
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


def _percent(weight: int) -> str:
    return f"{format_percent(weight)}%"
