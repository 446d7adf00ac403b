"""Owns `paymesh release`: one literal list of its actions. Each action's module adds its own arguments and runs."""

from __future__ import annotations

from paymesh.cli.release.applying import add_apply_parser
from paymesh.cli.release.drill import add_drill_parser
from paymesh.cli.release.reading import add_history_parser, add_list_parser, add_receipt_parser
from paymesh.cli.release.showing import add_get_parser
from paymesh.cli.release.simulating import add_simulate_parser
from paymesh.cli.release.steering import add_steering_parsers
from paymesh.cli.release.waiting import add_status_parser
from paymesh.cli.set_weight import add_set_weight_parser
from paymesh.cli.verbs import Verbs

ACTIONS = (
    add_list_parser,
    add_get_parser,
    add_status_parser,
    add_history_parser,
    add_receipt_parser,
    add_apply_parser,
    add_set_weight_parser,
    add_steering_parsers,
    add_drill_parser,
    add_simulate_parser,
)


def add_release_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("release", help="move a service from one version to the next: apply, watch, steer, undo")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for add_parser in ACTIONS:
        add_parser(actions)
