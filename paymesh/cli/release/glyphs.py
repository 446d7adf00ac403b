"""Owns the characters that a view is drawn with: blocks and marks, or ASCII where the encoding has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Glyphs:
    """`bars`: from nothing to the most."""

    bars: str
    done: str
    now: str
    to_come: str
    stopped: str


BLOCKS = Glyphs(bars="▁▂▃▄▅▆▇█", done="✔", now="▶", to_come="·", stopped="✖")
ASCII = Glyphs(bars="_.:-=+*#", done="x", now=">", to_come=".", stopped="!")


def glyphs_for(encoding: str | None) -> Glyphs:
    """Those that this encoding can say."""
    try:
        "".join((BLOCKS.bars, BLOCKS.done, BLOCKS.now, BLOCKS.to_come, BLOCKS.stopped)).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def sparkline(values: Sequence[int], bars: str) -> str:
    """A character a value, against the largest of them. Only 0 has the lowest bar: a single error is seen."""
    most = max(values, default=0)
    return "".join(bars[1 + value * (len(bars) - 2) // most] if value else bars[0] for value in values)
