"""Owns `paymesh release drill`: some of the target's requests fail or wait on purpose, until it is ended."""

from __future__ import annotations

import argparse

from control_plane.releases import releases_pb2 as pb
from control_plane.releases import releases_pb2_grpc
from paymesh.cli.admin_call import CALL_SECONDS
from paymesh.cli.change_arguments import add_change_arguments
from paymesh.cli.release.action import add_action, print_changed, runs
from paymesh.cli.verbs import Verbs
from paymesh.payments.percent import parse_percent
from paymesh.payments.releases.traffic import TOTAL

_MAX_DELAY_MS = 30_000
"""As a route's fault_injection allows."""


def add_drill_parser(actions: Verbs) -> None:
    parser = add_action(actions, "drill", "have some of the target's requests fail or wait on purpose, or end that")
    parser.add_argument("name")
    parser.add_argument("--abort", type=_share, metavar="PERCENT", help="of the requests, answered with --status")
    parser.add_argument("--status", type=_status, metavar="CODE", help="500 to 599")
    parser.add_argument("--delay", type=_share, metavar="PERCENT", help="of the requests, that wait for --by")
    parser.add_argument("--by", type=_delay, metavar="MS", help=f"milliseconds, {_MAX_DELAY_MS} at most")
    parser.add_argument("--end", action="store_true", help="no longer")
    add_change_arguments(parser)
    runs(parser, _drill, unfit=_unfit)


def _unfit(args: argparse.Namespace) -> str:
    """Of arguments that do not belong together; empty: none."""
    if (args.abort is None) != (args.status is None):
        return "--abort and --status belong together"
    if (args.delay is None) != (args.by is None):
        return "--delay and --by belong together"
    if args.end == (args.abort is not None or args.delay is not None):
        return "either --abort with --status, --delay with --by, or both of these; or --end"
    return ""


async def _drill(stub: releases_pb2_grpc.ReleasesStub, args: argparse.Namespace) -> int:
    request = pb.DrillRequest(
        name=args.name,
        abort_share=args.abort or 0,
        abort_status=args.status or 0,
        delay_share=args.delay or 0,
        delay_ms=args.by or 0,
        reason=args.reason,
        actor=args.actor,
    )
    print_changed(await stub.Drill(request, timeout=CALL_SECONDS), args)
    return 0


def _share(text: str) -> int:
    """Of 10,000. Raises ArgumentTypeError."""
    share = parse_percent(text)
    if share is None or not 0 < share <= TOTAL:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage above 0, at most 100, with at most two decimals")
    return share


def _status(text: str) -> int:
    """An outage, never a refusal, which would be read as the channel's word. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 500 <= int(text) <= 599:
        raise argparse.ArgumentTypeError(f"{text!r} is no status from 500 to 599")
    return int(text)


def _delay(text: str) -> int:
    """Milliseconds. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_DELAY_MS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of milliseconds from 1 to {_MAX_DELAY_MS}")
    return int(text)
