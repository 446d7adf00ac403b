"""Owns reading a release's document: a file, or standard input for `-`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

STANDARD_INPUT = Path("-")


class UnreadableDocument(Exception):  # noqa: N818 - it names what was found
    """The file cannot be read as UTF-8 text; the message names it."""


def add_file_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--file", type=Path, required=True, metavar="FILE", help="the release; -: from standard input"
    )


def read_document(file: Path) -> str:
    """Raises UnreadableDocument."""
    try:
        data = sys.stdin.buffer.read() if file == STANDARD_INPUT else file.read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise UnreadableDocument(f"{file}: {error.strerror or type(error).__name__}") from error
    except UnicodeDecodeError as error:
        raise UnreadableDocument(f"{file}: is not UTF-8") from error
