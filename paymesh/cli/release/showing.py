"""Owns `paymesh release get`: one release, once or watched: drawn in place on a terminal, else a line a change."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from control_plane.releases import releases_pb2 as pb
from paymesh.cli.admin_call import run_admin
from paymesh.cli.release import watched
from paymesh.cli.release.action import add_action, get_release, summary
from paymesh.cli.release.glyphs import glyphs_for
from paymesh.cli.release.output import as_dict, print_json, show
from paymesh.cli.release.screen import is_terminal, screen
from paymesh.cli.release.values import moment
from paymesh.cli.release.view import view
from paymesh.cli.verbs import Verbs


def add_get_parser(actions: Verbs) -> None:
    parser = add_action(
        actions,
        "get",
        "one release: steps, weights, verdicts, and what went to each version",
        "Watched, it ends with the release. Without a terminal each change is a line; with -o json, one of JSON.",
    )
    parser.add_argument("name")
    parser.add_argument("--watch", action="store_true", help="again each second, until the release is over, or ^C")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if not args.watch:
        return run_admin(args, lambda: _once(args))
    if args.output == "json" or not is_terminal():
        return run_admin(args, lambda: _lines(args))
    return run_admin(args, lambda: _drawn(args))


async def _once(args: argparse.Namespace) -> int:
    release = await get_release(args)
    if args.output == "json":
        print_json(as_dict(release))
    else:
        show(_view(release))
    return 0


async def _lines(args: argparse.Namespace) -> int:
    looked, outage = watched.Watched(args), watched.OutageTold(args.admin)
    shown: object = None
    while True:
        release = await looked.look()
        outage.tell(looked.answered)
        new: object = as_dict(release) if args.output == "json" else summary(release)
        if new != shown:
            shown = new
            if args.output == "json":
                print_json(new, one_line=True)
            else:
                show([f"{moment(int(time.time()))} {new}"])
        if release.over:
            return 0
        await asyncio.sleep(watched.EVERY_S)


async def _drawn(args: argparse.Namespace) -> int:
    looked = watched.Watched(args)
    release = await looked.look()  # its trouble is told on a screen that was not cleared yet
    async with screen() as drawing:
        while True:
            silence = [] if looked.answered else [f"No control plane answers on {args.admin}: as it was seen last.", ""]
            drawing.draw([*silence, *_view(release)])
            if release.over:
                return 0
            await asyncio.sleep(watched.EVERY_S)
            release = await looked.look()


def _view(release: pb.Release) -> list[str]:
    return view(release, int(time.time()), glyphs_for(sys.stdout.encoding))
