"""Owns where the characters of a decoded text stand in what it was decoded from. Refuses to decode anything itself.

A text is walked only as far as something in it changes, and in runs, not character by character: a form's `biz_content`
may be a megabyte of escapes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable

from paymesh.payments.bodies.edits import Cut

_ESCAPE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.", re.DOTALL)
"""One character of a JSON string that is escaped; a pair of surrogate escapes is one."""
_PERCENT_ESCAPE_LENGTH = 3

Offsets = Callable[[list[int]], list[int]]
"""From ascending positions in the decoded text to positions in the source."""


def moved(cuts: Iterable[Cut], offsets: Offsets, write: Callable[[str], str], begin: int) -> list[Cut]:
    """Ranges of a decoded text as ranges of the source, in which the text begins at `begin`; `write` encodes."""
    cuts = list(cuts)
    positions = sorted({position for start, end, _ in cuts for position in (start, end)})
    found = dict(zip(positions, offsets(positions), strict=True))
    return [(begin + found[start], begin + found[end], write(new)) for start, end, new in cuts]


def in_json_string(raw: str) -> Offsets:
    """`raw`: what stands between the quotes of a JSON string."""

    def offsets(positions: list[int]) -> list[int]:
        if "\\" not in raw:
            return positions
        after = [0]  # positions in the text after each escape, and where those are in `raw`
        after_raw = [0]
        for escape in _ESCAPE.finditer(raw):
            after.append(after[-1] + escape.start() - after_raw[-1] + 1)
            after_raw.append(escape.end())
        last = [bisect_right(after, position) - 1 for position in positions]
        return [after_raw[at] + position - after[at] for at, position in zip(last, positions, strict=True)]

    return offsets


def in_bytes(text: str, codec: str) -> Offsets:
    """What the text was decoded from is `text.encode(codec)`."""

    def offsets(positions: list[int]) -> list[int]:
        if text.isascii():
            return positions
        found, at, reached = [], 0, 0
        for position in positions:
            reached += len(text[at:position].encode(codec))
            found.append(reached)
            at = position
        return found

    return offsets


def in_percent_encoding(raw: bytes, text: str, codec: str) -> Offsets:
    """`raw`: the text's bytes as a form writes them, each itself, `+`, or an escape."""

    def offsets(positions: list[int]) -> list[int]:
        as_bytes = in_bytes(text, codec)(positions)
        if b"%" not in raw:
            return as_bytes
        found, at, reached = [], 0, 0
        for position in as_bytes:
            reached = _advanced(raw, reached, position - at)
            found.append(reached)
            at = position
        return found

    return offsets


def _advanced(raw: bytes, start: int, count: int) -> int:
    """Where so many decoded bytes after `start` end."""
    while count > 0:
        # At least a third of what is asked for: an escape that is cut in two is taken whole.
        end = start + count
        escapes = raw.count(b"%", start, end)
        cut = raw.rfind(b"%", max(start, end - _PERCENT_ESCAPE_LENGTH + 1), end)
        if cut >= 0:
            end = cut + _PERCENT_ESCAPE_LENGTH
        count -= end - start - (_PERCENT_ESCAPE_LENGTH - 1) * escapes
        start = end
    return start
