"""Owns how an operator writes a size in one word: `200/s`, `200/s:400` (burst), `100/10s,2000/1h`, or `50`."""

from __future__ import annotations

import re

from paymesh.payments.policy.callers import LimitSize, TokenRate
from paymesh.payments.policy.rate_limits import LimitKind

_RATE = re.compile(r"(\d{1,7})/(\d{0,5})([smhd])(?::(\d{1,8}))?", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MOST_EXACT = 1_000_000_000
_HOW = "is not a rate such as 200/s, 200/s:400 (with its burst) or 100/10s,2000/1h"


def parse_size(text: str, kind: LimitKind) -> LimitSize:
    """Raises ValueError, with what would be right."""
    if not kind.has_rate:
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= 10**12):
            raise ValueError(f"{text!r} is not a whole number from 1 on: {kind} has a ceiling")
        return int(text)
    rates = tuple(_rate(part) for part in text.split(","))
    if len({rate.per_s for rate in rates}) != len(rates):
        raise ValueError(f"{text!r} has two rates of the same length")
    return rates


def show_size(size: LimitSize) -> str:
    """What `parse_size` reads."""
    if isinstance(size, int):
        return str(size)
    return ",".join(f"{rate.tokens}/{_span(rate.per_s)}:{rate.burst}" for rate in size)


def _rate(text: str) -> TokenRate:
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} {_HOW}")
    tokens, per_s = int(match[1]), int(match[2] or 1) * _UNITS[match[3]]
    burst = int(match[4] or tokens)
    if not tokens or not burst or not 0 < per_s <= _UNITS["d"] or burst * per_s > _MOST_EXACT:
        raise ValueError(f"{text!r} is out of range: from 1 up, over at most a day, burst x seconds at most 10^9")
    return TokenRate(tokens, per_s, burst)


def _span(per_s: int) -> str:
    unit = next(unit for unit in ("d", "h", "m", "s") if per_s % _UNITS[unit] == 0)
    count = per_s // _UNITS[unit]
    return unit if count == 1 else f"{count}{unit}"
