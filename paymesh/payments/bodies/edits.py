"""Owns what can be done to a place of a body. Refuses to know how a body is written."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

Cut = tuple[int, int, str]
"""A range of characters, its end exclusive, and what stands there afterwards."""


class Drop(enum.Enum):
    """The type of DROP: the member, parameter or part goes away; an element of an array becomes null."""

    DROP = enum.auto()


DROP: Final = Drop.DROP


@dataclass(frozen=True, slots=True)
class Replace:
    """The value becomes this text: in JSON a string, whatever it was before."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Splice:
    """Ranges of a scalar's decoded text are replaced, ascending and apart; the spelling of all others stays."""

    parts: tuple[Cut, ...] = field(repr=False)


Edit = Replace | Drop | Splice


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file in a multipart body: it is not read."""

    length: int
    """Bytes."""


def spliced(text: str, cuts: Iterable[Cut]) -> str:
    """The text with those ranges replaced. A range inside another one, or overlapping an earlier one, is covered."""
    parts: list[str] = []
    position = 0
    # What goes in before a range is no part of it.
    for start, end, replacement in sorted(cuts, key=lambda cut: (cut[0], cut[1] > cut[0], -cut[1])):
        if start < position:
            continue
        parts += (text[position:start], replacement)
        position = end
    parts.append(text[position:])
    return "".join(parts)
