"""Owns what a pipeline reads off the exit code: how a release ended, or that it has not."""

from __future__ import annotations

from paymesh.payments.releases.state import Phase

PROMOTED, WENT_BACK, UNUSABLE, NOT_IN_TIME = 0, 1, 2, 3
MEANING = (
    "Exit codes: 0 promoted, or isolated; 1 rolled back, or frozen; 2 wrong usage, a bad document, or no control "
    "plane; 3 neither within the time."
)
_BY_PHASE = {
    str(Phase.PROMOTED): PROMOTED,
    str(Phase.ISOLATED): PROMOTED,
    str(Phase.ROLLED_BACK): WENT_BACK,
    str(Phase.FROZEN): WENT_BACK,
}


def exit_code(phase: str) -> int | None:
    """None: it is under way."""
    return _BY_PHASE.get(phase)
