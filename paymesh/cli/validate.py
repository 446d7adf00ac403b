"""Owns `paymesh validate`: checks a policy offline and prints every problem as `file:line: path: message`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors

if TYPE_CHECKING:
    from paymesh.cli.verbs import Verbs


def add_validate_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("validate", help="check a policy; every error at once")
    parser.add_argument("policy", nargs="+", type=Path, help="policy files or folders, taken together")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        policy = load_policy(args.policy, os.environ)
    except PolicyErrors as errors:
        print(errors, file=sys.stderr)
        print(f"refused: {len(errors.problems)} problem(s)", file=sys.stderr)
        return 2
    counts = (
        f"{sum(len(route.variants) or 1 for route in policy.routes)} routes, {len(policy.merchants)} merchants, "
        f"{len(policy.channels)} channels, {len(policy.services)} services"
    )
    print(f"valid: {counts}; version {policy.version}")
    return 0
