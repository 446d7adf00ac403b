"""Owns `paymesh limits`: what is in force for a merchant and used, and sizes set for a while."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from urllib.parse import quote, unquote

import grpc
from google.protobuf.json_format import MessageToDict

from ext_authz.admin import limits_pb2, limits_pb2_grpc
from paymesh.cli.admin_channel import UnusableFile, add_admin_arguments, admin_channel
from paymesh.cli.change_arguments import logged_in
from paymesh.cli.spans import span
from paymesh.cli.table import print_table
from paymesh.cli.verbs import Verbs

DEFAULT_ADMIN = "127.0.0.1:18002"
_CALL_SECONDS = 5.0


def add_limits_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("limits", help="show a merchant's limits, or set one for a while")
    acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
    show = acts.add_parser("show", help="what is in force for a merchant, and how much of it is used")
    show.add_argument("merchant")
    show.add_argument("-o", "--output", choices=("table", "json"), default="table")
    add_admin_arguments(show, DEFAULT_ADMIN, "of an ext_authz")
    show.set_defaults(run=lambda args: _call(args, lambda stub: _show(stub, args)))
    setting = acts.add_parser("set", help="set a size for a while, audited; the policy's comes back by itself")
    _add_change(setting)
    setting.add_argument("value", metavar="VALUE", help="200/s, 200/s:400 (burst), 100/10s,2000/1h, or a ceiling: 50")
    setting.add_argument("--for", dest="seconds", type=span, required=True, metavar="30m", help="30s, 30m, 2h, 7d")
    setting.set_defaults(run=lambda args: _call(args, lambda stub: _set(stub, args)))
    unset = acts.add_parser("unset", help="end what was set before its time")
    _add_change(unset)
    unset.set_defaults(run=lambda args: _call(args, lambda stub: _unset(stub, args)))


def _add_change(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "key",
        metavar="KEY",
        help="LIMIT for all, or LIMIT/VALUE with the value of each dimension (%%2F for a slash in it)",
    )
    parser.add_argument("--reason", required=True, help="kept with the change")
    parser.add_argument("--actor", default=logged_in(), help="who; default: the user logged in")
    add_admin_arguments(parser, DEFAULT_ADMIN, "of an ext_authz")


def _call(args: argparse.Namespace, act: Callable[[limits_pb2_grpc.LimitsStub], Awaitable[int]]) -> int:
    async def inside() -> int:
        async with admin_channel(args) as channel:
            return await act(limits_pb2_grpc.LimitsStub(channel))

    try:
        return asyncio.run(inside())
    except UnusableFile as error:
        print(error, file=sys.stderr)
        return 2
    except grpc.aio.AioRpcError as error:
        # The service's own words where it has some: "not recorded" is UNAVAILABLE as well.
        silent = error.code() is grpc.StatusCode.UNAVAILABLE and not (error.details() or "").startswith("not recorded")
        text = f"no ext_authz answers on {args.admin} (--admin names another address)" if silent else error.details()
        print(text, file=sys.stderr)
        return 2


async def _show(stub: limits_pb2_grpc.LimitsStub, args: argparse.Namespace) -> int:
    answer = await stub.Show(limits_pb2.ShowRequest(merchant=args.merchant), timeout=_CALL_SECONDS)
    if args.output == "json":
        print(json.dumps(MessageToDict(answer, preserving_proto_field_name=True), indent=2))
        return 0
    rows = [("LIMIT", "KEY", "KIND", "SIZE", "FROM", "USED", "MODE")]
    for one in answer.limits:
        used = ", ".join(f"{usage.used} of {usage.of}" for usage in one.usage)
        rows.append((one.limit, " ".join(one.key), one.kind, one.size, one.size_from, used or "-", one.mode))
    print_table(rows)
    if not answer.limits:
        print("(no limit applies to its routes)")
    if not answer.usage_known:
        print("shared state cannot be asked: what is used is not known", file=sys.stderr)
    if answer.overrides:
        print()
        print_table(
            [("OVERRIDE", "SIZE", "UNTIL", "BY", "REASON")]
            + [
                (
                    "/".join((one.limit, *(quote(value, safe="") for value in one.values))),
                    one.size,
                    _moment(one.until),
                    one.actor,
                    one.reason,
                )
                for one in answer.overrides
            ]
        )
    return 0


async def _set(stub: limits_pb2_grpc.LimitsStub, args: argparse.Namespace) -> int:
    limit, values = _key(args.key)
    request = limits_pb2.SetRequest(
        limit=limit, values=values, size=args.value, seconds=args.seconds, reason=args.reason, actor=args.actor
    )
    answer = await stub.Set(request, timeout=_CALL_SECONDS)
    print(f"{args.key}: {answer.before} -> {answer.after} until {_moment(answer.until)}")
    return 0


async def _unset(stub: limits_pb2_grpc.LimitsStub, args: argparse.Namespace) -> int:
    limit, values = _key(args.key)
    request = limits_pb2.UnsetRequest(limit=limit, values=values, reason=args.reason, actor=args.actor)
    await stub.Unset(request, timeout=_CALL_SECONDS)
    print(f"{args.key}: the policy's size is in force again")
    return 0


def _key(text: str) -> tuple[str, list[str]]:
    """A slash in a value is written %2F."""
    limit, *values = text.split("/")
    return limit, [unquote(value) for value in values]


def _moment(unix_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(unix_s))
