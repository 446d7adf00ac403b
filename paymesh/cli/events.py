"""Owns `paymesh events`: reading the log, handing it to a consumer over HTTP, dead letters, and going back."""

from __future__ import annotations

import argparse
import asyncio
import sys

import aiohttp

from paymesh.cli.event_log import add_event_log, with_event_log
from paymesh.cli.verbs import Verbs
from paymesh.payments.events.consumer import Delivered, Take, deliver, deliver_dead
from paymesh.payments.events.log import START, EventLog, Stored
from paymesh.payments.events.types import encode

_POLL_S = 0.5
_TIMEOUT = aiohttp.ClientTimeout(total=10)


def add_events_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("events", help="read payment events, deliver them, see and replay what failed")
    acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
    read = acts.add_parser("read", help="print events as JSON, one a line")
    read.add_argument("--after", default=START, metavar="POSITION", help="default: from the first one")
    add_event_log(read)
    read.set_defaults(run=lambda args: with_event_log(args.events, lambda log: _read(log, args.after)))
    send = acts.add_parser("deliver", help="POST each event to a consumer: at least once, in order, until stopped")
    send.add_argument("group", help="its name: the position is kept under it")
    send.add_argument("--to", required=True, metavar="URL", help="answers 2xx when it has taken the event for good")
    send.add_argument("--once", action="store_true", help="stop when nothing is left")
    add_event_log(send)
    send.set_defaults(run=lambda args: with_event_log(args.events, lambda log: _deliver(log, args)))
    dead = acts.add_parser("dead", help="events that a consumer could not take; exit code 1 if there are any")
    dead.add_argument("group")
    add_event_log(dead)
    dead.set_defaults(run=lambda args: with_event_log(args.events, lambda log: _dead(log, args.group)))
    replay = acts.add_parser("replay", help="let a group be given events again, from a position on")
    replay.add_argument("group")
    replay.add_argument("--after", required=True, metavar="POSITION", help=f"{START}: everything")
    add_event_log(replay)
    replay.set_defaults(run=lambda args: with_event_log(args.events, lambda log: _replay(log, args)))
    again = acts.add_parser("retry-dead", help="POST the dead letters of a group once more")
    again.add_argument("group")
    again.add_argument("--to", required=True, metavar="URL")
    add_event_log(again)
    again.set_defaults(run=lambda args: with_event_log(args.events, lambda log: _retry_dead(log, args)))


async def _read(log: EventLog, after: str) -> int:
    while stored := await log.read(_position(after)):
        for one in stored:
            print(f"{one.position}\t{encode(one.event)}")
        after = stored[-1].position
    return 0


async def _deliver(log: EventLog, args: argparse.Namespace) -> int:
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        take = _posting(session, args.to)
        while True:
            done = await deliver(log, args.group, take)
            _say(done)
            if args.once:
                return int(done.buried > 0)
            await asyncio.sleep(_POLL_S)


async def _retry_dead(log: EventLog, args: argparse.Namespace) -> int:
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        done = await deliver_dead(log, args.group, _posting(session, args.to))
    _say(done)
    return int(done.buried > 0)


async def _dead(log: EventLog, group: str) -> int:
    found = await log.buried(group)
    for one in found:
        print(f"{one.stored.position}\t{one.tries} tries\t{one.error}\t{encode(one.stored.event)}")
    return int(bool(found))


async def _replay(log: EventLog, args: argparse.Namespace) -> int:
    before = await log.position(args.group)
    await log.commit(args.group, _position(args.after))
    print(f"{args.group}: was at {before}, goes on after {args.after}")
    return 0


def _position(text: str) -> str:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        print(f"{text}: no position, which is a number as `paymesh events read` shows it", file=sys.stderr)
        raise SystemExit(2)
    return text


def _say(done: Delivered) -> None:
    if done.taken or done.buried:
        print(f"{done.taken} taken, {done.buried} set aside", flush=True)


def _posting(session: aiohttp.ClientSession, url: str) -> Take:
    """One event a request; its id is in the header that consumers tell repeats by."""

    async def take(stored: Stored) -> str | None:
        headers = {"content-type": "application/json", "idempotency-key": f'"{stored.event.id}"'}
        try:
            async with session.post(url, data=encode(stored.event), headers=headers) as answer:
                return None if answer.ok else f"answered {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"no answer: {type(error).__name__}"

    return take
