"""Owns percentages as people write them and as weights are kept: whole hundredths of a percent. Never a float."""

from __future__ import annotations

import re

_PERCENT = re.compile(r"(\d{1,3})(?:\.(\d{1,2}))?", re.ASCII)


def parse_percent(text: str) -> int | None:
    """`"0.25"` -> 25, `"90"` -> 9000; None for anything but one to three digits and at most two decimals."""
    match = _PERCENT.fullmatch(text)
    return None if match is None else int(match.group(1)) * 100 + int((match.group(2) or "0").ljust(2, "0"))


def format_percent(weight: int) -> str:
    """`25` -> `"0.25"`: always with two decimals, without the sign."""
    return f"{weight // 100}.{weight % 100:02}"
