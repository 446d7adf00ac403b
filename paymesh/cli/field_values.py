"""Owns `paymesh decrypt` and `paymesh hash`: reading what `encrypt` rules wrote, and finding what `hash` rules wrote.

Values are read from a file or from standard input, never from the command line, where `ps` and the shell's history
would keep them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from paymesh.payments.fields.keyed_values import ENCRYPTED, NotDecryptable, decrypt, every_hash
from paymesh.payments.policy.field_rules import KeyRing
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors

if TYPE_CHECKING:
    from paymesh.cli.verbs import Verbs


def add_decrypt_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "decrypt",
        help="show what `encrypt` rules hid, with the policy's keys",
        description="Copy a text to standard output with every encrypted value (enc:...) decrypted. Exit code 0: all "
        "of them; 1: some stay as they are, since their key is not in the policy or they were changed; 2: unusable.",
    )
    _add_arguments(parser, "the text; default: standard input")
    parser.set_defaults(run=_decrypt)


def add_hash_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "hash",
        help="what `hash` rules make of a value, to look for it in stored data",
        description="For each line: its hash under every key of the ring, since data from before a rotation has the "
        "older one. Numbers that a detector found are hashed without spaces and dashes: write them so.",
    )
    _add_arguments(parser, "a value a line; default: standard input")
    parser.set_defaults(run=_hash)


def _add_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("file", nargs="?", type=Path, help=what)
    parser.add_argument("--policy", action="append", type=Path, help="policy file or folder; may repeat")
    parser.add_argument("--keys", metavar="NAME", help="one of the policy's field_keys; default: every one")


def _decrypt(args: argparse.Namespace) -> int:
    found = _read(args)
    if isinstance(found, int):
        return found
    rings, text = found
    failed: dict[str, None] = {}

    def plain(match: re.Match[str]) -> str:
        problems = []
        for ring in rings.values():
            try:
                return decrypt(ring.by_id, match[0])
            except NotDecryptable as error:
                problems.append(str(error))
        failed[problems[-1] if problems else "the policy has no field_keys"] = None
        return match[0]

    sys.stdout.write(ENCRYPTED.sub(plain, text))
    for problem in failed:
        print(problem, file=sys.stderr)
    return 1 if failed else 0


def _hash(args: argparse.Namespace) -> int:
    found = _read(args)
    if isinstance(found, int):
        return found
    rings, text = found
    for value in text.splitlines():
        for ring in rings.values():
            for hashed in every_hash(ring, value):
                print(hashed)
    return 0


def _read(args: argparse.Namespace) -> tuple[Mapping[str, KeyRing], str] | int:
    """The rings asked for and the text, or an exit code."""
    try:
        rings = load_policy(args.policy or [Path("examples/demo")], os.environ).field_keys
        if args.keys is not None and args.keys not in rings:
            known = ", ".join(sorted(rings)) or "none"
            print(f"the policy has no field_keys {args.keys} (it has: {known})", file=sys.stderr)
            return 2
        text = sys.stdin.read() if args.file is None else args.file.read_text(encoding="utf-8")
    except (PolicyErrors, OSError, UnicodeDecodeError) as error:
        # A decoding error's text holds what it could not read.
        print(error if not isinstance(error, UnicodeDecodeError) else "the text is not UTF-8", file=sys.stderr)
        return 2
    return ({args.keys: rings[args.keys]} if args.keys is not None else rings), text
