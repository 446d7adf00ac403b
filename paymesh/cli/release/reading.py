"""Owns the actions that only read: `list`, `history` and `receipt`."""

from __future__ import annotations

import argparse

from control_plane.releases import releases_pb2 as pb
from control_plane.releases import releases_pb2_grpc
from paymesh.cli.admin_call import CALL_SECONDS
from paymesh.cli.release.action import add_action, runs
from paymesh.cli.release.output import as_dict, print_json, show
from paymesh.cli.release.values import NONE, actual_percent, moment, percent, plain
from paymesh.cli.table import table_lines
from paymesh.cli.verbs import Verbs

_RECEIPT_SECONDS = 30.0
"""It is added up from everything that was recorded of the release."""


def add_list_parser(actions: Verbs) -> None:
    runs(add_action(actions, "list", "every release, where it stands, and its weights"), _list)


def add_history_parser(actions: Verbs) -> None:
    parser = add_action(actions, "history", "what happened to a release, when, and by whom")
    parser.add_argument("name")
    runs(parser, _history)


def add_receipt_parser(actions: Verbs) -> None:
    parser = add_action(actions, "receipt", "a release as a record to keep, in Markdown: who, why, exposure, verdicts")
    parser.add_argument("name")
    runs(parser, _receipt)


async def _list(stub: releases_pb2_grpc.ReleasesStub, args: argparse.Namespace) -> int:
    answer: pb.ListResponse = await stub.List(pb.ListRequest(), timeout=CALL_SECONDS)
    if args.output == "json":
        print_json([as_dict(release) for release in answer.releases])
        return 0
    rows = [("NAME", "SERVICE", "STRATEGY", "VERSIONS", "PHASE", "STEP", "SET", "ACTUAL", "VERDICT")]
    for one in answer.releases:
        names = one.name, one.service, one.strategy, f"{one.stable} -> {one.target}", one.phase
        step = f"{min(one.step + 1, len(one.steps))}/{len(one.steps)}"
        rows.append((*names, step, percent(one.set_weight), actual_percent(one), one.verdict or NONE))
    show(table_lines(rows))
    if not answer.releases:
        show(["(no release yet)"])
    return 0


async def _history(stub: releases_pb2_grpc.ReleasesStub, args: argparse.Namespace) -> int:
    answer: pb.HistoryResponse = await stub.History(pb.HistoryRequest(name=args.name), timeout=CALL_SECONDS)
    if args.output == "json":
        print_json([as_dict(entry) for entry in answer.entries])
        return 0
    rows = [("AT", "WHO", "PHASE", "STEP", "SET", "WHAT")]
    for one in answer.entries:
        step, weight = f"{min(one.step + 1, answer.steps)}/{answer.steps}", percent(one.set_weight)
        rows.append((moment(one.at), plain(one.who), one.phase, step, weight, plain(one.what)))
    show(table_lines(rows))
    return 0


async def _receipt(stub: releases_pb2_grpc.ReleasesStub, args: argparse.Namespace) -> int:
    answer: pb.ReceiptResponse = await stub.Receipt(pb.ReceiptRequest(name=args.name), timeout=_RECEIPT_SECONDS)
    if args.output == "json":
        print_json(as_dict(answer))
    else:
        show(plain(line) for line in answer.markdown.splitlines())
    return 0
