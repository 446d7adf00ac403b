"""Owns `paymesh release apply`: a document is handed to the control plane, which alone judges and records it."""

from __future__ import annotations

import argparse
import sys

from control_plane.releases import releases_pb2 as pb
from control_plane.releases import releases_pb2_grpc
from paymesh.cli.admin_call import CALL_SECONDS, EXIT_UNUSABLE
from paymesh.cli.change_arguments import add_change_arguments
from paymesh.cli.release.action import add_action, print_changed, runs
from paymesh.cli.release.document_file import UnreadableDocument, add_file_option, read_document
from paymesh.cli.verbs import Verbs


def add_apply_parser(actions: Verbs) -> None:
    parser = add_action(actions, "apply", "begin the release that a document describes")
    add_file_option(parser)
    add_change_arguments(parser)
    runs(parser, _apply)


async def _apply(stub: releases_pb2_grpc.ReleasesStub, args: argparse.Namespace) -> int:
    try:
        text = read_document(args.file)
    except UnreadableDocument as error:
        print(error, file=sys.stderr)
        return EXIT_UNUSABLE
    request = pb.ApplyRequest(file_name=str(args.file), text=text, reason=args.reason, actor=args.actor)
    print_changed(await stub.Apply(request, timeout=CALL_SECONDS), args)
    return 0
