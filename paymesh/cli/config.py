"""Owns `paymesh config`: policies applied, compared and taken back by version, and what a node runs."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import grpc

from control_plane.config import config_pb2 as pb
from control_plane.config import config_pb2_grpc
from paymesh.cli.admin_call import DEFAULT_ADMIN
from paymesh.cli.admin_channel import UnusableFile, add_admin_arguments, admin_channel
from paymesh.cli.change_arguments import logged_in
from paymesh.cli.verbs import Verbs
from paymesh.payments.policy.yaml_source import policy_files

EXIT_REFUSED, EXIT_UNUSABLE, EXIT_CONFLICT = 1, 2, 3
_SECONDS = 60.0
"""A large policy is compiled, shown to Envoy and taken by every service before the answer."""
Files = Sequence[pb.File]


def add_config_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "config",
        help="the configuration centre: apply, compare, take back",
        description="Exit codes: 0 done; 1 the policy was refused; 2 wrong usage, or no control plane; "
        "3 another version is in force.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    apply = _action(actions, "apply", "check a policy, show the difference, record and publish it", _apply)
    apply.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="file or folder: the whole policy")
    _changing(apply)
    apply.add_argument("--dry-run", action="store_true", help="check and show only")
    back = _action(actions, "rollback", "apply an earlier version again", _rollback)
    back.add_argument("version", help="or its beginning")
    _changing(back)
    history = _action(actions, "history", "who applied what, when and why; newest first", _history)
    history.add_argument("--limit", type=int, default=20)
    history.add_argument("-o", "--output", choices=("table", "json"), default="table")
    diff = _action(actions, "diff", "what changed between two versions", _diff)
    diff.add_argument("before")
    diff.add_argument("after", nargs="?", default="", help="default: the one in force")
    show = _action(actions, "show", "the documents of a version", _show)
    show.add_argument("version", nargs="?", default="", help="default: the one in force")
    dump = _action(actions, "dump", "what a node runs, as JSON", _dump)
    dump.add_argument("node", help="its id in `paymesh status`")


Act = Callable[[config_pb2_grpc.ConfigCentreStub, argparse.Namespace], Awaitable[int]]


def _action(actions: Verbs, name: str, help_text: str, act: Act) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help_text, description=help_text)
    add_admin_arguments(parser, DEFAULT_ADMIN, "of the control plane")
    parser.set_defaults(run=lambda args: _call(act, args))
    return parser


def _changing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--if-version", required=True, metavar="VERSION", help="what this was made from; none: there is nothing yet"
    )
    parser.add_argument("--reason", default="", help="kept with the change; required unless --dry-run")
    parser.add_argument("--actor", default=logged_in(), help="who; default: the user logged in")


def _call(act: Act, args: argparse.Namespace) -> int:
    async def inside() -> int:
        async with admin_channel(args) as channel:
            return await act(config_pb2_grpc.ConfigCentreStub(channel), args)

    try:
        return asyncio.run(inside())
    except UnusableFile as error:
        _say(str(error))
        return EXIT_UNUSABLE
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            _say(f"no control plane answers on {args.admin} (--admin names another address)")
            return EXIT_UNUSABLE
        _say(error.details() or error.code().name)
        codes = {grpc.StatusCode.ABORTED: EXIT_CONFLICT, grpc.StatusCode.INVALID_ARGUMENT: EXIT_REFUSED}
        return codes.get(error.code(), EXIT_UNUSABLE)


async def _apply(stub: config_pb2_grpc.ConfigCentreStub, args: argparse.Namespace) -> int:
    try:
        files = [pb.File(name=file.name, text=file.read_text(encoding="utf-8")) for file in policy_files(args.paths)]
    except (OSError, UnicodeDecodeError) as error:
        _say(str(error))
        return EXIT_UNUSABLE
    return await _change(stub, args, pb.ApplyRequest(files=files, dry_run=args.dry_run), files)


async def _rollback(stub: config_pb2_grpc.ConfigCentreStub, args: argparse.Namespace) -> int:
    to = await stub.Get(pb.GetRequest(version=args.version), timeout=_SECONDS)
    return await _change(stub, args, pb.ApplyRequest(from_version=to.version), to.files)


async def _change(
    stub: config_pb2_grpc.ConfigCentreStub, args: argparse.Namespace, request: pb.ApplyRequest, files: Files
) -> int:
    request.if_version, request.reason, request.actor = args.if_version, args.reason, args.actor
    answer: pb.ApplyResponse = await stub.Apply(request, timeout=_SECONDS)
    changed = _print_difference(answer.files_before, files)
    if not changed:
        print("no line changed")
    if request.dry_run:
        print(f"it is a policy; in force is {answer.before}")
    else:
        print(f"{answer.before} -> {answer.version}")
    return 0


async def _history(stub: config_pb2_grpc.ConfigCentreStub, args: argparse.Namespace) -> int:
    answer = await stub.History(pb.HistoryRequest(limit=args.limit), timeout=_SECONDS)
    if args.output == "json":
        print(json.dumps([_as_dict(one) for one in answer.versions], indent=2, ensure_ascii=False))
        return 0
    for one in answer.versions:
        at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(one.at))
        state = "in force" if one.in_force else "refused" if one.refused else ""
        print(f"{one.version}  {at}  {one.actor:<16} {state:<9} {one.reason}")
        if one.refused:
            print(f"    {one.refused.splitlines()[0]}")
    return 0


def _as_dict(one: pb.Version) -> dict[str, object]:
    return {
        "version": one.version,
        "before": one.before,
        "at": one.at,
        "actor": one.actor,
        "reason": one.reason,
        "in_force": one.in_force,
        "refused": one.refused or None,
    }


async def _diff(stub: config_pb2_grpc.ConfigCentreStub, args: argparse.Namespace) -> int:
    before = await stub.Get(pb.GetRequest(version=args.before), timeout=_SECONDS)
    after = await stub.Get(pb.GetRequest(version=args.after), timeout=_SECONDS)
    _print_difference(before.files, after.files)
    return 0


async def _show(stub: config_pb2_grpc.ConfigCentreStub, args: argparse.Namespace) -> int:
    found = await stub.Get(pb.GetRequest(version=args.version), timeout=_SECONDS)
    print(f"# version {found.version}")
    for file in found.files:
        print(f"# {file.name}\n{file.text.rstrip()}\n---")
    return 0


async def _dump(stub: config_pb2_grpc.ConfigCentreStub, args: argparse.Namespace) -> int:
    answer = await stub.Dump(pb.DumpRequest(node=args.node), timeout=_SECONDS)
    print(json.dumps({kind: json.loads(text) for kind, text in sorted(answer.resources.items())}, indent=2))
    if not answer.acknowledged:
        _say("a newer configuration is on its way to it, or it refused that: see `paymesh status`")
    return 0


def _print_difference(before: Files, after: Files) -> bool:
    """As `diff -u` shows it, file by file. Whether there was any."""
    old, new = ({file.name: file.text for file in files} for files in (before, after))
    found = False
    for name in sorted(old.keys() | new.keys()):
        lines = difflib.unified_diff(
            old.get(name, "").splitlines(), new.get(name, "").splitlines(), f"a/{name}", f"b/{name}", lineterm=""
        )
        for line in lines:
            found = True
            print(line)
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr)
