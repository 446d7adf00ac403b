"""Owns `paymesh release simulate`: a document's plan is played against versions that behave as the arguments say."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from paymesh.cli.release.document_file import UnreadableDocument, read_document
from paymesh.cli.release.exit_codes import MEANING, NOT_IN_TIME, UNUSABLE, exit_code
from paymesh.cli.release.output import add_output_argument, print_json, show
from paymesh.cli.release.simulated_traffic import Behaviour, World
from paymesh.cli.release.simulation import Moment, Simulation
from paymesh.cli.release.values import percent, plain
from paymesh.cli.verbs import Verbs
from paymesh.payments.percent import parse_percent
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.releases.documents import read_plan
from paymesh.payments.releases.plan import Plan
from paymesh.payments.releases.traffic import TOTAL
from paymesh.payments.releases.words import duration_in_words

_MOST = 100_000
"""Payments a second, and milliseconds of a latency."""


def add_simulate_parser(actions: Verbs) -> None:
    parser = actions.add_parser(
        "simulate", help="play a release's document without any server; the same for the same seed", description=MEANING
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the release; -: from standard input")
    add("--success", type=_chance, required=True, metavar="CHANCE", help="of the target's payments, such as 0.97")
    add("--stable-success", type=_chance, default=0.999, metavar="CHANCE", help="default: %(default)s")
    add("--latency-ms", type=_whole, metavar="N", help="the target's 99th percentile; default: the stable version's")
    add("--stable-latency-ms", type=_whole, default=100, metavar="N", help="default: %(default)s")
    add("--payments-per-second", type=_whole, default=100, metavar="N", help="of both versions; default: %(default)s")
    add("--pinned", type=_share, default=100, metavar="PERCENT", help="of the payments, that pins bring; default: 1")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add_output_argument(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        plan = read_plan(str(args.file), read_document(args.file))
    except (UnreadableDocument, PolicyErrors) as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    world = _world(args)
    simulation = Simulation(plan, world)
    if args.output == "json":
        moments = [_as_dict(moment) for moment in simulation.play()]
        ends = {"release": plan.name, "phase": str(simulation.state.phase), "seconds": simulation.now_s}
        print_json({**ends, "moments": moments})
    else:
        show([_title(plan, world)])
        for moment in simulation.play():
            show([_line(plan, moment)])
        show([f"{plan.name}: {simulation.state.phase} after {duration_in_words(simulation.now_s)}"])
    code = exit_code(simulation.state.phase)
    return NOT_IN_TIME if code is None else code


def _world(args: argparse.Namespace) -> World:
    latency_ms = args.stable_latency_ms if args.latency_ms is None else args.latency_ms
    return World(
        stable=Behaviour(args.stable_success, args.stable_latency_ms),
        target=Behaviour(args.success, latency_ms),
        payments_per_second=args.payments_per_second,
        pinned=args.pinned,
        seed=args.seed,
    )


def _title(plan: Plan, world: World) -> str:
    versions = (
        f"{name} {of.success:.2%} in {of.latency_ms} ms"
        for name, of in ((plan.stable, world.stable), (plan.target, world.target))
    )
    rate = f"{world.payments_per_second} payments a second, seed {world.seed}"
    return f"{plan.name}, {plan.service}, simulated: {' -> '.join(versions)}; {rate}"


def _line(plan: Plan, moment: Moment) -> str:
    step = f"{min(moment.step + 1, len(plan.steps))}/{len(plan.steps)}"
    return f"{_clock(moment.at_s):>10}  {step:>5}  {percent(moment.share):>7}  {moment.phase:<12} {plain(moment.what)}"


def _clock(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _as_dict(moment: Moment) -> dict[str, object]:
    return {
        "at_s": moment.at_s,
        "step": moment.step,
        "phase": str(moment.phase),
        "set_weight": moment.share,
        "what": moment.what,
    }


def _chance(text: str) -> float:
    chance = float(text)
    if not 0 <= chance <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no chance from 0 to 1")
    return chance


def _whole(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {_MOST}")
    return number


def _share(text: str) -> int:
    share = parse_percent(text)
    if share is None or share > TOTAL:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage, 100 at most, with at most two decimals")
    return share
