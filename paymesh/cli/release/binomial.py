"""Owns seeded binomial counts: exact, the same for the same seed, in as many steps as the rarer outcome comes."""

from __future__ import annotations

import math
from random import Random


def binomial(random: Random, trials: int, chance: float) -> int:
    """How many of so many trials succeed, each with this chance, 0 to 1.

    Draws the distance from one success to the next, which is geometric (Devroye, Non-Uniform Random Variate Generation,
    1986, X.4.3).
    """
    if chance > 0.5:
        return trials - binomial(random, trials, 1 - chance)
    if chance <= 0:
        return 0
    log_miss = math.log1p(-chance)
    found, at = 0, 0
    while True:
        at += int(math.log(1 - random.random()) / log_miss) + 1
        if at > trials:
            return found
        found += 1
