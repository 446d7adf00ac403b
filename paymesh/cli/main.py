"""Owns the `paymesh` command: one literal list of its verbs. Each verb's module adds its own arguments and runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

# Nothing here may import grpc before this: the variable is read at import (docs/decisions/0002-grpc-experiments.md).
from paymesh.server import grpc_experiments

grpc_experiments.apply()

from paymesh.cli.audit import add_audit_parser  # noqa: E402
from paymesh.cli.completion import add_completion_parser  # noqa: E402
from paymesh.cli.config import add_config_parser  # noqa: E402
from paymesh.cli.demo.command import add_demo_parser  # noqa: E402
from paymesh.cli.events import add_events_parser  # noqa: E402
from paymesh.cli.explain import add_explain_parser  # noqa: E402
from paymesh.cli.field_values import add_decrypt_parser, add_hash_parser  # noqa: E402
from paymesh.cli.limits import add_limits_parser  # noqa: E402
from paymesh.cli.payments import add_payments_parser  # noqa: E402
from paymesh.cli.release.command import add_release_parser  # noqa: E402
from paymesh.cli.set_weight import add_set_weight_parser  # noqa: E402
from paymesh.cli.status import add_status_parser  # noqa: E402
from paymesh.cli.up import add_up_parser  # noqa: E402
from paymesh.cli.validate import add_validate_parser  # noqa: E402
from paymesh.cli.verify import add_verify_parser  # noqa: E402

VERBS = (
    add_up_parser,
    add_demo_parser,
    add_validate_parser,
    add_explain_parser,
    add_verify_parser,
    add_decrypt_parser,
    add_hash_parser,
    add_status_parser,
    add_set_weight_parser,
    add_release_parser,
    add_config_parser,
    add_audit_parser,
    add_limits_parser,
    add_payments_parser,
    add_events_parser,
    add_completion_parser,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; its exit code. 2: wrong usage or unusable input, named on stderr."""
    parser = argparse.ArgumentParser(prog="paymesh", description="An Envoy made into a payment gateway.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add_parser in VERBS:
        add_parser(verbs)
    parser.set_defaults(command_line=parser)  # `completion` describes all of it
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
