"""Owns `paymesh completion`: a shell's script that completes verbs, options, choices and files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from paymesh.cli.verbs import Verbs

SHELLS = ("bash", "zsh", "fish")


def add_completion_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "completion",
        help="print a shell's completion script",
        description="bash: source <(paymesh completion bash). zsh: as _paymesh in a folder of $fpath. fish: as "
        "~/.config/fish/completions/paymesh.fish.",
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    command_line: argparse.ArgumentParser = args.command_line
    for action in _actions(command_line):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(command_line, args.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Of the parser, and of those of its verbs. argparse has no public way to ask."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
