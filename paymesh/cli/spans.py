"""Owns spans of time as a person writes them on a command line."""

from __future__ import annotations

import argparse
import re

_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def span(text: str) -> int:
    """Seconds. Raises ArgumentTypeError."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no span of time such as 30s, 30m, 2h or 7d")
    return int(match[1]) * _UNITS[match[2]]
