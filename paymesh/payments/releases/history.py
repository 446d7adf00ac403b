"""Owns one line of a release's history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paymesh.payments.releases.state import OVER, State


@dataclass(frozen=True, slots=True)
class Entry:
    """`before` None: the release began. `at_s`: Unix seconds."""

    at_s: int
    who: str
    what: str
    before: State | None
    after: State


def end_of(history: Sequence[Entry]) -> Entry | None:
    """By which it was over the last time; what hooks were told may stand behind it. None: it is under way."""
    found = None
    for entry in history:
        if entry.after.phase not in OVER:
            found = None
        elif found is None:
            found = entry
    return found
