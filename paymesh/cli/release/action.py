"""Owns what every `paymesh release` action has: its parser, the control plane's address, and how it is called."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable

import grpc

from control_plane.releases import releases_pb2 as pb
from control_plane.releases import releases_pb2_grpc
from paymesh.cli.admin_call import CALL_SECONDS, DEFAULT_ADMIN, call_admin
from paymesh.cli.admin_channel import add_admin_arguments, admin_channel
from paymesh.cli.release.output import add_output_argument, as_dict, print_json, show
from paymesh.cli.release.values import actual_percent, percent, plain
from paymesh.cli.verbs import Verbs

Act = Callable[[releases_pb2_grpc.ReleasesStub, argparse.Namespace], Awaitable[int]]


def add_action(actions: Verbs, name: str, help_text: str, description: str = "") -> argparse.ArgumentParser:
    """One that asks the control plane; whoever adds it sets `run`."""
    parser = actions.add_parser(name, help=help_text, description=description or help_text)
    add_output_argument(parser)
    add_admin_arguments(parser, DEFAULT_ADMIN, "of the control plane")
    return parser


def runs(
    parser: argparse.ArgumentParser, act: Act, unfit: Callable[[argparse.Namespace], str] = lambda _args: ""
) -> None:
    """`act` gets a stub whose channel is closed behind it. `unfit`: what is wrong with the arguments together."""

    def run(args: argparse.Namespace) -> int:
        problem = unfit(args)
        if problem:
            parser.error(problem)

        def with_stub(channel: grpc.aio.Channel) -> Awaitable[int]:
            return act(releases_pb2_grpc.ReleasesStub(channel), args)

        return call_admin(args, with_stub)

    parser.set_defaults(run=run)


async def get_release(args: argparse.Namespace) -> pb.Release:
    """`args.name`, over a channel of its own. Raises AioRpcError, UnusableFile."""
    async with admin_channel(args) as channel:
        stub = releases_pb2_grpc.ReleasesStub(channel)
        release: pb.Release = await stub.Get(pb.GetRequest(name=args.name), timeout=CALL_SECONDS)
        return release


def print_changed(release: pb.Release, args: argparse.Namespace) -> None:
    """The release as a change left it."""
    if args.output == "json":
        print_json(as_dict(release))
    else:
        show([summary(release)])


def summary(release: pb.Release) -> str:
    """Where it stands, in one line."""
    parts = [f"{release.name}: {release.phase}"]
    if release.step < len(release.steps):
        step = f"step {release.step + 1} of {len(release.steps)} ({plain(release.steps[release.step])})"
        parts.append(step)
    parts.append(f"set {percent(release.set_weight)}, actual {actual_percent(release)}")
    if release.drill:
        parts.append(f"drill: {plain(release.drill)}")
    if release.verdict:
        parts.append(f"verdict {release.verdict}")
    if release.why:
        parts.append(plain(release.why))
    return "; ".join(parts)
