"""Owns how many of so many chance may hit: exact quantiles of the binomial distribution."""

from __future__ import annotations

import math

CONFIDENCE = 0.999


def binomial_bounds(count: int, share: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """The hits, at least and at most, of `count` tries at `share` each: beyond either end lies half of the doubt."""
    doubt = (1 - confidence) / 2
    below, low = 0.0, 0
    for hits in range(count + 1):
        below += _chance(count, share, hits)
        if below <= doubt:
            low = hits + 1
        if below >= 1 - doubt:
            return low, hits
    return low, count


def _chance(count: int, share: float, hits: int) -> float:
    """By logarithms: the coefficient alone is beyond any float."""
    ways = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return math.exp(ways + hits * math.log(share) + (count - hits) * math.log1p(-share))
