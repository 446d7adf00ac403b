"""Owns telling beforehand who would move: the version that Envoy picks for a merchant, by its own arithmetic.

Envoy hashes the header's value with xxHash64, seed 0, and takes the remainder of the weights' total; the clusters in
their order have as many of the remainders as they weigh (hash policy of a weighted cluster; seen with 1.40, and tested
against it).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import xxhash

from paymesh.payments.releases.exposure import Recent
from paymesh.payments.releases.traffic import TOTAL
from paymesh.payments.split import split_value


@dataclass(frozen=True, slots=True)
class Share:
    """What would go to a version: of the weights, of the payments seen lately, and of their amounts."""

    version: str
    set_weight: int
    new_weight: int
    payments: int
    amounts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Move:
    """A merchant that would change versions."""

    merchant: str
    now: str
    then: str
    recent: Recent


@dataclass(frozen=True, slots=True)
class Preview:
    """`moves`: those with the most payments first."""

    shares: tuple[Share, ...]
    moves: tuple[Move, ...]


def version_of(split: str, weights: Mapping[str, int]) -> str:
    """Where a request with this `x-pay-split` goes. The weights are those of all versions, in the service's order."""
    slot = xxhash.xxh64_intdigest(split.encode()) % TOTAL
    for version, weight in weights.items():
        if slot < weight:
            return version
        slot -= weight
    raise ValueError(f"the weights do not add up to {TOTAL}")


def preview(
    merchants: Mapping[str, Recent], salt: str, now: Mapping[str, int], then: Mapping[str, int], new_salt: str = ""
) -> Preview:
    """What becomes of the merchants seen lately. `new_salt` empty: the salt stays."""
    payments: Counter[str] = Counter()
    amounts: dict[str, Counter[str]] = {version: Counter() for version in then}
    moves = []
    for merchant, recent in merchants.items():
        before = version_of(split_value(salt, merchant, ""), now)
        after = version_of(split_value(new_salt or salt, merchant, ""), then)
        payments[after] += recent.payments
        amounts[after].update(recent.amounts)
        if before != after:
            moves.append(Move(merchant, before, after, recent))
    moves.sort(key=lambda move: (-move.recent.payments, move.merchant))
    shares = [Share(one, now.get(one, 0), then[one], payments[one], dict(amounts[one])) for one in then]
    return Preview(tuple(shares), tuple(moves))
