"""Owns `paymesh payments`: attempts whose end is not certain, an order's attempts, asking channels, ending by hand."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from paymesh.cli.change_arguments import logged_in
from paymesh.cli.event_log import add_event_log, is_there, with_event_log
from paymesh.cli.offline_import import add_import_parser
from paymesh.cli.table import print_table
from paymesh.cli.verbs import Verbs
from paymesh.payments.denial import Unavailable
from paymesh.payments.events.log import EventLog, Known
from paymesh.payments.events.types import Ended, Result, ToldBy
from paymesh.payments.jose.fetch import HttpFetch
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.resolving import Resolver
from paymesh.server.http_fetch import AiohttpFetch

_CERTAIN = [str(result) for result in (Result.ACCEPTED, Result.SUCCEEDED, Result.REFUSED)]


def add_payments_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("payments", help="what was attempted and what came of it")
    acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
    unresolved = acts.add_parser("unresolved", help="attempts without a certain end; exit code 1 if one is overdue")
    _add_output(unresolved)
    unresolved.set_defaults(run=lambda args: with_event_log(args.events, lambda log: _unresolved(log, args.output)))
    order = acts.add_parser("show", help="every attempt of an order")
    order.add_argument("merchant")
    order.add_argument("order_no")
    _add_output(order)
    order.set_defaults(run=lambda args: with_event_log(args.events, lambda log: _show(log, args)))
    end = acts.add_parser("end", help="say how an attempt ended, after the channel was asked; kept with who and why")
    end.add_argument("merchant")
    end.add_argument("order_no")
    end.add_argument("attempt", help="its id, as `unresolved` shows it")
    end.add_argument("result", choices=_CERTAIN)
    end.add_argument("--reason", required=True, help="kept with the event")
    end.add_argument("--actor", default=logged_in(), help="who; default: the user logged in")
    add_event_log(end)
    end.set_defaults(run=lambda args: with_event_log(args.events, lambda log: _end(log, args)))

    resolve = acts.add_parser("resolve", help="ask the channels about attempts whose end is unknown, and record it")
    resolve.add_argument("--policy", action="append", type=Path, required=True, help="file or folder; may repeat")
    resolve.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="SERVICE=URL",
        help="where a service is asked, if not at its endpoint in the policy",
    )
    resolve.add_argument("--every", type=float, metavar="SECONDS", help="go on until stopped; default: once")
    add_event_log(resolve)
    resolve.set_defaults(run=_resolve)
    add_import_parser(acts)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    add_event_log(parser)


async def _unresolved(log: EventLog, output: str) -> int:
    now_us = time.time_ns() // 1000
    found = await log.unresolved()
    _print(found, output, now_us, "(every attempt has a certain end)")
    return int(any(_state(known, now_us) == "overdue" for known in found))


async def _show(log: EventLog, args: argparse.Namespace) -> int:
    found = await log.of_order(args.merchant, args.order_no)
    if not found:
        print(f"no attempt of order {args.order_no} by {args.merchant}", file=sys.stderr)
        return 2
    _print(found, args.output, time.time_ns() // 1000, "")
    return 0


async def _end(log: EventLog, args: argparse.Namespace) -> int:
    of_order = await log.of_order(args.merchant, args.order_no)
    known = next((one for one in of_order if one.attempted.attempt_id == args.attempt), None)
    if known is None:
        print(f"no attempt {args.attempt} of order {args.order_no} by {args.merchant}", file=sys.stderr)
        return 2
    ended = Ended(
        attempt_id=args.attempt,
        at_us=time.time_ns() // 1000,
        operation=known.attempted.operation,
        result=Result(args.result),
        told_by=ToldBy.OPERATOR,
        why=f"{args.actor}: {args.reason}",
    )
    if not await log.end(ended):
        print(f"it has ended already: {known.result}", file=sys.stderr)
        return 2
    print(f"{args.attempt}: {known.result or 'no end'} -> {args.result}")
    return 0


def _resolve(args: argparse.Namespace) -> int:
    addresses = dict(one.partition("=")[::2] for one in args.address)
    wrong = [name for name, url in addresses.items() if not url.startswith(("http://", "https://"))]
    if wrong:
        print(f"--address {wrong[0]}: not SERVICE=URL", file=sys.stderr)
        return 2
    try:
        while args.every is not None and not is_there(args.events):
            time.sleep(args.every)
        return with_event_log(args.events, lambda log: _resolving(log, args, addresses))
    except PolicyErrors as errors:
        print(errors, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


async def _resolving(log: EventLog, args: argparse.Namespace, addresses: Mapping[str, str]) -> int:
    """Exit code 1: some are still unknown."""
    fetch = AiohttpFetch()
    try:
        if args.every is None:
            return int(await _resolve_once(log, fetch, args.policy, addresses, quiet=False) > 0)
        while True:
            try:
                await _resolve_once(log, fetch, args.policy, addresses, quiet=True)
            except (PolicyErrors, Unavailable) as error:
                print(error, file=sys.stderr)
            await asyncio.sleep(args.every)
    finally:
        await fetch.aclose()


async def _resolve_once(
    log: EventLog, fetch: HttpFetch, policy: Sequence[Path], addresses: Mapping[str, str], *, quiet: bool
) -> int:
    """How many are left. `quiet`: only what was learnt is printed. Raises PolicyErrors, Unavailable."""
    # The policy is read each time: channels and their keys change.
    resolver = Resolver(
        load_policy(policy, os.environ),
        log,
        fetch,
        lambda: time.time_ns() // 1000,
        lambda: secrets.token_hex(16),
        addresses,
    )
    left = 0
    for known in await log.unresolved():
        answered = await resolver.resolve(known)
        left += answered.result is None
        if answered.result is not None or not quiet:
            one = known.attempted
            print(f"{one.attempt_id} {one.merchant} {one.order_no}: {answered.result or 'unknown'} ({answered.why})")
    sys.stdout.flush()
    return left


def _print(found: Sequence[Known], output: str, now_us: int, nothing: str) -> None:
    if output == "json":
        print(json.dumps([{**asdict(one.attempted), "state": _state(one, now_us)} for one in found], indent=2))
        return
    rows = [("BEGAN", "ATTEMPT", "MERCHANT", "ORDER", "OPERATION", "AMOUNT", "CHANNEL", "STATE")]
    for known in found:
        one = known.attempted
        amount = "-" if one.amount is None else f"{one.amount} {one.currency or ''}".rstrip()
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at_us // 1_000_000))
        state = _state(known, now_us)
        rows.append(
            (began, one.attempt_id, one.merchant, one.order_no, one.operation, amount, one.channel or "-", state)
        )
    print_table(rows)
    if not found and nothing:
        print(nothing)


def _state(known: Known, now_us: int) -> str:
    """`running` until its time is over, then `overdue` until the reaper says that it is unknown."""
    if known.result is not None:
        return str(known.result)
    return "running" if now_us <= known.attempted.ends_by_us else "overdue"
