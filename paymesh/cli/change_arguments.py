"""Owns how a change from a terminal says who asks for it, and why."""

from __future__ import annotations

import argparse
import getpass
import os

MAX_REASON = 1_000
"""Characters, as the control plane takes them."""


def add_change_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """`--reason` and `--actor`. Not `required`: whoever adds them decides when a reason has to be given."""
    parser.add_argument("--reason", type=reason, required=required, metavar="TEXT", help="kept with it")
    parser.add_argument("--actor", default=logged_in(), help="who; default: the user logged in")


def reason(text: str) -> str:
    """Raises ArgumentTypeError."""
    if not text.strip() or len(text) > MAX_REASON:
        raise argparse.ArgumentTypeError(f"a reason has 1 to {MAX_REASON} characters")
    return text


def logged_in() -> str:
    """Who is logged in. A container may run as a number that no user has: then the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
