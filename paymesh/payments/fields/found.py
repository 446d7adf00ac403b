"""Owns what a detector reports. Refuses the characters themselves: a find is a place and a kind."""

from __future__ import annotations

from dataclasses import dataclass

from paymesh.payments.policy.field_rules import Detector


@dataclass(frozen=True, slots=True)
class Found:
    """The characters `start` to `end` (exclusive) of the text are a `kind`."""

    start: int
    end: int
    kind: Detector
