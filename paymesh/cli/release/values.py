"""Owns how a release's values read in a terminal. Refuses floats for weights and amounts, and guesses no decimals."""

from __future__ import annotations

import time
from collections.abc import Iterable

from control_plane.releases import releases_pb2 as pb
from paymesh.payments.percent import format_percent
from paymesh.payments.releases.words import money_in_words

NONE = "-"


def percent(weight: int) -> str:
    """Of 10,000: `1000` -> `10.00%`."""
    return f"{format_percent(weight)}%"


def actual_percent(release: pb.Release) -> str:
    """What every node confirmed; `differs` while there is no such weight."""
    return percent(release.actual_weight) if release.HasField("actual_weight") else "differs"


def success_percent(well: int, total: int) -> str:
    """Rounded down: what failed once is never shown as 100%."""
    return percent(well * 10_000 // total) if total else NONE


def moment(unix_s: int) -> str:
    """ISO 8601 in UTC; 0 is no moment."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s)) if unix_s else NONE


def amounts(money: Iterable[pb.Money]) -> str:
    """`88.88 CNY + 5.00 USD`."""
    return " + ".join(money_in_words(one.amount, one.currency) for one in money) or NONE


def plain(text: str) -> str:
    """On one line, and without what a terminal would obey: reasons and findings are written by others."""
    return "".join(char if char.isprintable() else " " for char in text)
