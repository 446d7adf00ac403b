"""Owns `paymesh release status`: a pipeline waits for a release's end and reads it off the exit code."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from paymesh.cli.admin_call import run_admin
from paymesh.cli.release import watched
from paymesh.cli.release.action import add_action, summary
from paymesh.cli.release.exit_codes import MEANING, NOT_IN_TIME, exit_code
from paymesh.cli.release.output import as_dict, print_json, show
from paymesh.cli.release.values import moment
from paymesh.cli.verbs import Verbs


def add_status_parser(actions: Verbs) -> None:
    parser = add_action(actions, "status", "wait until a release is over, isolated or frozen", MEANING)
    parser.add_argument("name")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="how long at most; 0: only look; default: as long as it takes",
    )
    parser.set_defaults(run=lambda args: run_admin(args, lambda: _wait(args)))


async def _wait(args: argparse.Namespace) -> int:
    """A line a change; of JSON the last state only, since that is what is asked for."""
    began = time.monotonic()
    looked, outage = watched.Watched(args), watched.OutageTold(args.admin)
    shown = ""
    while True:
        release = await looked.look()
        outage.tell(looked.answered)
        left_s = watched.EVERY_S if args.timeout is None else began + args.timeout - time.monotonic()
        code = exit_code(release.phase)
        now = summary(release)
        if args.output == "table" and now != shown:
            shown = now
            show([f"{moment(int(time.time()))} {now}"])
        if code is None and left_s > 0:
            await asyncio.sleep(min(watched.EVERY_S, left_s))
            continue
        if args.output == "json":
            print_json(as_dict(release))
        if code is not None:
            return code
        print(f"{args.name} is {release.phase} after {args.timeout} s", file=sys.stderr)
        return NOT_IN_TIME


def _seconds(text: str) -> int:
    """Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return int(text)
