"""Owns how the release commands print: lines that any terminal takes, and JSON with every key of the API.

JSON follows protobuf's mapping: 64-bit numbers are strings, and what is optional is absent when it is not known.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def add_output_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def as_dict(message: Message) -> dict[str, Any]:
    """With the proto's own names, and values that are zero or empty."""
    found: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


def print_json(value: object, *, one_line: bool = False) -> None:
    print(json.dumps(value, indent=None if one_line else 2), flush=one_line)


def show(lines: Iterable[str]) -> None:
    """What the terminal's encoding cannot say becomes a question mark."""
    for line in lines:
        print(encodable(line), flush=True)


def encodable(line: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return line.encode(encoding, "replace").decode(encoding)
