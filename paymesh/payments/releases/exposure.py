"""Owns how much went somewhere: to a version while a release was under way, or from a merchant lately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Exposure:
    """`errors`: answered with 500 or above, or not at all. `payments`: that say something about the service;
    `payments_failed`: of those. `amounts`: minor units by currency."""

    requests: int = 0
    errors: int = 0
    payments: int = 0
    payments_failed: int = 0
    amounts: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Exposure) -> Exposure:
        return Exposure(
            self.requests + other.requests,
            self.errors + other.errors,
            self.payments + other.payments,
            self.payments_failed + other.payments_failed,
            _sum(self.amounts, other.amounts, 1),
        )

    def __sub__(self, other: Exposure) -> Exposure:
        return Exposure(
            self.requests - other.requests,
            self.errors - other.errors,
            self.payments - other.payments,
            self.payments_failed - other.payments_failed,
            _sum(self.amounts, other.amounts, -1),
        )


@dataclass(frozen=True, slots=True)
class Recent:
    """One merchant's payments of the last hour. `amounts`: minor units by currency."""

    payments: int
    amounts: Mapping[str, int] = field(default_factory=dict)


def _sum(one: Mapping[str, int], other: Mapping[str, int], sign: int) -> dict[str, int]:
    found = Counter(one)
    for currency, amount in other.items():
        found[currency] += sign * amount
    return {currency: amount for currency, amount in found.items() if amount}
