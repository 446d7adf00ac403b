"""Owns `paymesh verify`: for a merchant whose signature is refused, the string to sign, and where theirs differs."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from paymesh.cli.http_file import NotAnHttpRequest, read_http_file
from paymesh.payments.credentials.authenticate import authenticate
from paymesh.payments.credentials.claim import Asked, Claim, CredentialScheme
from paymesh.payments.credentials.directory import PolicyKeys
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.denial import Denial
from paymesh.payments.policy.callers import CredentialKey
from paymesh.payments.policy.compiled import Policy, Route
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.request import RepeatedHeader, Request
from paymesh.payments.routing import find_route

if TYPE_CHECKING:
    from paymesh.cli.verbs import Verbs

_CONTEXT_BYTES = 20


def add_verify_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "verify",
        help="the string to sign of a request, and the first byte where a merchant's differs",
        description="Read a raw HTTP request, print the exact string that its signature must cover, and check it. "
        "Exit code 0: it verifies as the merchant's; 1: it does not; 2: the request or the policy cannot be used.",
    )
    parser.add_argument("request", type=Path, metavar="REQUEST.http")
    parser.add_argument("--merchant", required=True, help="the merchant's id in the policy")
    parser.add_argument("--policy", action="append", type=Path, help="policy file or folder; may repeat")
    parser.add_argument(
        "--theirs", type=Path, metavar="FILE", help="the string that the merchant signed, byte for byte"
    )
    parser.add_argument("--at", type=int, metavar="UNIX-SECONDS", help="check as of this time (default: now)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        policy = load_policy(args.policy or [Path("examples/demo")], os.environ)
        request = read_http_file(args.request)
        theirs = None if args.theirs is None else args.theirs.read_bytes()
    except (PolicyErrors, NotAnHttpRequest, OSError) as error:
        return _unusable(str(error))
    if args.merchant not in policy.merchants:
        return _unusable(f"the policy has no merchant {args.merchant}")
    route = find_route(policy, request)
    if route is None:
        return _unusable(f"no route matches {request.method} {request.path}")
    scheme = next((SCHEMES[name] for name in route.schemes if SCHEMES[name].recognises(request)), None)
    if scheme is None:
        return _unusable(f"the request has no credential of {', '.join(route.schemes) or 'any scheme'}")
    try:
        claim = scheme.read(request, route)
    except RepeatedHeader as repeated:
        return _unusable(f"header {repeated} came more than once")
    if isinstance(claim, Denial):
        return _unusable(f"{scheme.scheme}: {claim.detail}")
    now_s = int(time.time()) if args.at is None else args.at
    return asyncio.run(_report(policy, request, route, scheme, claim, args.merchant, theirs, now_s))


async def _report(
    policy: Policy,
    request: Request,
    route: Route,
    scheme: CredentialScheme,
    claim: Claim,
    merchant: str,
    theirs: bytes | None,
    now_s: int,
) -> int:
    keys = await PolicyKeys().keys(policy, claim)
    print(f"route     {route.name}")
    print(f"scheme    {scheme.scheme}, key {claim.key.name}: {_whose(keys, merchant)}")
    print(f"string to sign, {len(claim.string_to_sign)} bytes, between the lines:")
    print("-" * 72, flush=True)
    sys.stdout.buffer.write(claim.string_to_sign + b"\n")
    sys.stdout.buffer.flush()
    print("-" * 72)
    if theirs is not None:
        print(difference(claim.string_to_sign, theirs))
    result = await authenticate(scheme, Asked(request, route, policy, PolicyKeys(), now_s))
    if isinstance(result, Denial):
        print(f"result    refused: {result.detail}")
        return 1
    if result.merchant.id != merchant:
        print(f"result    verifies, but as merchant {result.merchant.id}")
        return 1
    print(f"result    verifies as {merchant}, key {result.key_id}")
    return 0


def _whose(keys: tuple[CredentialKey, ...], merchant: str) -> str:
    owners = {"the provider" if key.merchant is None else key.merchant.id for key in keys}
    if not owners:
        return "not in the policy"
    if owners == {merchant}:
        return f"{len(keys)} of {merchant}" if len(keys) > 1 else f"{merchant}'s"
    return f"belongs to {', '.join(sorted(owners))}, not to {merchant}"


def difference(ours: bytes, theirs: bytes) -> str:
    """Where two strings to sign part, counted in bytes from 0."""
    if ours == theirs:
        return "theirs    is the same, byte for byte: then the key or the signature differs"
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    return f"theirs    differs at byte {at}\n  ours    {_around(ours, at)}\n  theirs  {_around(theirs, at)}"


def _around(text: bytes, at: int) -> str:
    before = text[max(0, at - _CONTEXT_BYTES) : at]
    if at >= len(text):
        return f"{before!r} and ends there"
    return f"{before!r} then {text[at : at + 1]!r} (0x{text[at]:02x}), {text[at + 1 : at + 1 + _CONTEXT_BYTES]!r}"


def _unusable(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
