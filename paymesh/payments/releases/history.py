"""Owns one line of a release's history."""

from __future__ import annotations

from dataclasses import dataclass

from paymesh.payments.releases.state import State


@dataclass(frozen=True, slots=True)
class Entry:
    """`before` None: the release began. `at_s`: Unix seconds."""

    at_s: int
    who: str
    what: str
    before: State | None
    after: State
