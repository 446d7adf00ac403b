"""Owns which groups of digits in a text can be one number. Refuses parts of a group: digits side by side stay together.

Texts are `plain` (text_forms). Two groups joined by one dot are a decimal number, four an address or a version; other
dotted numbers count as a whole only. Groups that a mask left are none.
"""

from __future__ import annotations

import re

_MAX_SEPARATORS = 3
_RESIDUE = 6
"""The most digits that a mask leaves side by side."""
_MASK_BEFORE = re.compile(r"\*[0-9A-Za-z]{0,3}\Z", re.ASCII)
_GROUP = re.compile(r"[0-9]+", re.ASCII)

Group = tuple[int, int]
"""Start and end in the text."""
Segment = tuple[list[Group], bool]
"""Groups of which any that follow one another can be one number; True: only all of them together."""


def segments_of(text: str, start: int, end: int) -> list[Segment]:
    """The segments of a run of digits and separators that begins with a digit."""
    groups = [match.span() for match in _GROUP.finditer(text, start, end)]
    segments: list[Segment] = []
    current, whole = [groups[0]], False
    for group in groups[1:]:
        separator = text[current[-1][1] : group[0]]
        dot = separator == "."
        if dot and not whole:
            # The group before the dot belongs to what the dot joins.
            joined = current.pop()
            segments.append((current, False))
            current, whole = [joined, group], True
        elif dot == whole and len(separator) <= _MAX_SEPARATORS and (dot or "." not in separator):
            current.append(group)
        else:
            segments.append((current, whole))
            current, whole = [group], False
    segments.append((current, whole))
    return [segment for each in segments for segment in _without_residue(text, *each)]


def _without_residue(text: str, groups: list[Group], whole: bool) -> list[Segment]:
    """The segment without the groups that a mask left: they are no part of a number any more."""
    kept = [
        (start, end)
        for start, end in groups
        if end - start > _RESIDUE
        or (text[end : end + 1] != "*" and _MASK_BEFORE.search(text, max(0, start - 4), start) is None)
    ]
    if whole:
        return _undotted(groups) if len(kept) == len(groups) else []
    return [(kept, False)] if kept else []


def _undotted(groups: list[Group]) -> list[Segment]:
    """What can be a number of groups joined by dots: not a decimal number, an address (IPv4) or a version."""
    lengths = [end - start for start, end in groups]
    if len(lengths) == 2:
        # 15 and more digits before the dot are no amount, 18 behind it no fraction; `1.13812341234` is in a list.
        single = (lengths[0] >= 15, lengths[1] >= 18 or (lengths[1] == 11 and lengths[0] <= 2))
        return [([group], False) for group, possible in zip(groups, single, strict=True) if possible]
    return [(groups, True)] if len(lengths) != 4 or min(lengths) >= 4 else []
