"""Owns `set-weight`, of `paymesh` and of `paymesh release` alike: a service's traffic split set by hand, or tried."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable, Mapping

import grpc

from control_plane.admin import admin_pb2, admin_pb2_grpc
from control_plane.releases import releases_pb2, releases_pb2_grpc
from paymesh.cli.admin_call import CALL_SECONDS, DEFAULT_ADMIN, EXIT_UNUSABLE, call_admin
from paymesh.cli.admin_channel import add_admin_arguments
from paymesh.cli.change_arguments import add_change_arguments
from paymesh.cli.release.output import add_output_argument, as_dict, print_json, show
from paymesh.cli.release.preview import preview_lines
from paymesh.cli.release.values import percent
from paymesh.cli.verbs import Verbs
from paymesh.payments.percent import parse_percent


def add_set_weight_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("set-weight", help="set a service's traffic split, audited; or only preview it")
    parser.add_argument("service")
    parser.add_argument(
        "weights", nargs="+", metavar="VERSION=PERCENT", help="steps of 0.01; the sum is 100; others get 0"
    )
    parser.add_argument("--preview", action="store_true", help="show who would move; nothing is changed")
    add_change_arguments(parser, required=False)
    parser.add_argument(
        "--wait", type=int, default=10, metavar="SECONDS", help="until the nodes confirmed it (default 10; 0: do not)"
    )
    add_output_argument(parser)
    add_admin_arguments(parser, DEFAULT_ADMIN, "of the control plane")

    def run(args: argparse.Namespace) -> int:
        if not args.preview and not args.reason:
            parser.error("the following arguments are required: --reason (or --preview)")
        return _run(args)

    parser.set_defaults(run=run)


async def set_weights_and_wait(
    admin: str, service: str, weights: Mapping[str, int], *, reason: str, actor: str, timeout_s: float = 10.0
) -> None:
    """Set hundredths of a percent by version; returns when every node has them. Raises RuntimeError, AioRpcError."""
    async with grpc.aio.insecure_channel(admin) as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        await _set(stub, service, weights, reason, actor)
        if not await _confirmed(stub, service, timeout_s):
            raise RuntimeError(f"the nodes have not confirmed the weights of {service} after {timeout_s:g} s")


def parse_weights(texts: list[str]) -> dict[str, int]:
    """`["v1=99.75", "v2=0.25"]` -> hundredths of a percent. Raises ValueError."""
    weights: dict[str, int] = {}
    for text in texts:
        version, equals, share = text.partition("=")
        weight = parse_percent(share)
        if not equals or not version or weight is None:
            raise ValueError(f"{text!r} is not VERSION=PERCENT with at most two decimals, such as v2=0.25")
        if version in weights:
            raise ValueError(f"{version} is named twice")
        weights[version] = weight
    return weights


def _run(args: argparse.Namespace) -> int:
    try:
        weights = parse_weights(args.weights)
    except ValueError as error:
        print(error, file=sys.stderr)
        return EXIT_UNUSABLE
    if args.preview:
        return call_admin(args, lambda channel: _preview(channel, args, weights))
    return call_admin(args, lambda channel: _set_weight(channel, args, weights))


async def _preview(channel: grpc.aio.Channel, args: argparse.Namespace, weights: Mapping[str, int]) -> int:
    request = releases_pb2.PreviewRequest(service=args.service, weights=dict(weights))
    answer = await releases_pb2_grpc.ReleasesStub(channel).Preview(request, timeout=CALL_SECONDS)
    if args.output == "json":
        print_json(as_dict(answer))
    else:
        show(preview_lines(args.service, answer))
    return 0


async def _set_weight(channel: grpc.aio.Channel, args: argparse.Namespace, weights: Mapping[str, int]) -> int:
    stub = admin_pb2_grpc.AdminStub(channel)
    answer = await _set(stub, args.service, weights, args.reason, args.actor)
    if args.output == "table":
        print(f"{args.service}: {_split(answer.before)} -> {_split(answer.after)}")
    confirmed = await _confirmed(stub, args.service, args.wait) if args.wait else None
    if args.output == "json":
        print_json({**as_dict(answer), "confirmed": confirmed})
    elif confirmed:
        print("confirmed by every node")
    if confirmed is False:
        print(f"recorded, but not confirmed by every node within {args.wait} s: see `paymesh status`", file=sys.stderr)
    return int(confirmed is False)


async def _set(
    stub: admin_pb2_grpc.AdminStub, service: str, weights: Mapping[str, int], reason: str, actor: str
) -> admin_pb2.SetWeightResponse:
    request = admin_pb2.SetWeightRequest(service=service, weights=dict(weights), reason=reason, actor=actor)
    answer: admin_pb2.SetWeightResponse = await stub.SetWeight(request, timeout=CALL_SECONDS)
    return answer


async def _confirmed(stub: admin_pb2_grpc.AdminStub, service: str, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while True:
        status: admin_pb2.StatusResponse = await stub.Status(admin_pb2.StatusRequest(), timeout=CALL_SECONDS)
        versions = [version for item in status.services if item.service == service for version in item.versions]
        if all(v.HasField("actual_weight") and v.actual_weight == v.set_weight for v in versions):
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)


def _split(weights: Iterable[admin_pb2.VersionWeight]) -> str:
    return " ".join(f"{item.version}={percent(item.weight)}" for item in weights)
