"""Owns the actions by which a person steers a release: `pause`, `resume`, `promote`, `abort` and the others."""

from __future__ import annotations

import argparse
from functools import partial

from control_plane.releases import releases_pb2 as pb
from control_plane.releases import releases_pb2_grpc
from paymesh.cli.admin_call import CALL_SECONDS
from paymesh.cli.change_arguments import add_change_arguments
from paymesh.cli.release.action import add_action, print_changed, runs
from paymesh.cli.verbs import Verbs
from paymesh.payments.releases.state import Command

_COMMANDS = (
    (Command.PAUSE, "take no further step; the analysis goes on, and may roll back"),
    (Command.RESUME, "go on after a pause or a freeze"),
    (Command.PROMOTE, "past the gate, the hold or the pause: to the next step"),
    (Command.ABORT, "go back to the stable version, at once"),
    (Command.UNDO, "after it was promoted: go back to the stable version, at once"),
    (Command.FREEZE, "keep the weights as they are, whatever the analysis says"),
    (Command.RETRY, "after it went back: begin again at the first step"),
)


def add_steering_parsers(actions: Verbs) -> None:
    for command, help_text in _COMMANDS:
        parser = add_action(actions, str(command), help_text)
        parser.add_argument("name")
        if command is Command.PROMOTE:
            parser.add_argument("--full", action="store_true", help="to the end, whatever steps are left")
        add_change_arguments(parser)
        runs(parser, partial(_tell, command))


async def _tell(command: Command, stub: releases_pb2_grpc.ReleasesStub, args: argparse.Namespace) -> int:
    if command is Command.PROMOTE and args.full:
        command = Command.PROMOTE_FULL
    request = pb.TellRequest(name=args.name, command=str(command), reason=args.reason, actor=args.actor)
    print_changed(await stub.Tell(request, timeout=CALL_SECONDS), args)
    return 0
