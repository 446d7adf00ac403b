"""Owns `paymesh audit`: what was changed over an admin port, by whom, when and why."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

import grpc

from paymesh.cli.admin_call import DEFAULT_ADMIN
from paymesh.cli.admin_channel import UnusableFile, add_admin_arguments, admin_channel
from paymesh.cli.spans import span
from paymesh.cli.verbs import Verbs
from paymesh.server import admin_audit_pb2 as pb
from paymesh.server import admin_audit_pb2_grpc

EXIT_BROKEN, EXIT_UNUSABLE = 1, 2
_SECONDS = 30.0


def add_audit_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "audit",
        help="every change over an admin port: who, when, why, from what to what",
        description="Exit codes: 0; 1 the log is not as it was written; 2 nobody answers.",
    )
    parser.add_argument("--since", type=span, default=0, metavar="SPAN", help="such as 30m, 24h or 7d (default: all)")
    parser.add_argument("--limit", type=int, default=100, help="the newest so many (default: %(default)s)")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    add_admin_arguments(parser, DEFAULT_ADMIN, "of a control plane, or of an ext_authz")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    async def ask() -> pb.ListResponse:
        since = int(time.time()) - args.since if args.since else 0
        async with admin_channel(args) as channel:
            stub = admin_audit_pb2_grpc.AuditStub(channel)
            answer: pb.ListResponse = await stub.List(pb.ListRequest(since=since, limit=args.limit), timeout=_SECONDS)
            return answer

    try:
        answer = asyncio.run(ask())
    except UnusableFile as error:
        print(error, file=sys.stderr)
        return EXIT_UNUSABLE
    except grpc.aio.AioRpcError as error:
        print(f"{args.admin}: {error.details()}", file=sys.stderr)
        return EXIT_UNUSABLE
    if args.output == "json":
        print(json.dumps([_as_dict(one) for one in answer.entries], indent=2, ensure_ascii=False))
    else:
        for one in answer.entries:
            _print(one)
    if not answer.intact:
        print(f"entry {answer.broken_at} is not as it was written, or one before it is missing", file=sys.stderr)
        return EXIT_BROKEN
    return 0


def _as_dict(one: pb.Entry) -> dict[str, object]:
    return {
        "number": one.number,
        "at": one.at,
        "actor": one.actor,
        "role": one.role,
        "method": one.method,
        "asked": _value(one.asked),
        "answered": _value(one.answered),
        "result": one.result or None,
    }


def _value(text: str) -> object:
    """What is no JSON (a row that somebody changed) is shown as it is: one row never hides the others."""
    try:
        return json.loads(text or "null")
    except ValueError:
        return text


def _print(one: pb.Entry) -> None:
    at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(one.at))
    asked = _value(one.asked)
    reason = asked.pop("reason", "") if isinstance(asked, dict) else ""
    if isinstance(asked, dict):
        asked.pop("actor", None)
    print(f"{one.number:>6}  {at}  {one.actor:<16} {one.method.rpartition('/')[2]:<10} {reason}")
    print(f"        {json.dumps(asked, ensure_ascii=False)}")
    print(f"        {one.result or 'did not end'} {one.answered}")
