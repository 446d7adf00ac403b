"""Owns what a release asks of whatever splits a service's traffic: weights, and rules that stand above them.

Weights are of 10,000, and those of all versions always add up to it (DESIGN section 6).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from paymesh.payments.policy.forwarding import Fault

TOTAL = 10_000
MERCHANT, HEADER, COOKIE = "merchant", "header", "cookie"
"""Kinds of pins."""
Weights = Mapping[str, int]
"""By version, in the service's own order."""


@dataclass(frozen=True, slots=True)
class Pin:
    """Requests that go to `version` whatever the weights say: of this merchant, or with this header or cookie.

    `kind`: merchant, header or cookie. `name`: of the header (in lower case) or the cookie; empty for a merchant.
    """

    kind: str
    name: str
    value: str
    version: str


@dataclass(frozen=True, slots=True)
class Rules:
    """Beside the weights. `salt`: of `x-pay-split`; empty: the service's own. `orders_stay`: versions that go on
    answering for orders that began on them (`x-pay-version`). `mirror`: a version that is shown copies of this share,
    of 10,000, of requests that do no harm twice. `fault`: what is done on purpose to a version's requests."""

    salt: str = ""
    pins: tuple[Pin, ...] = ()
    orders_stay: tuple[str, ...] = ()
    mirror: tuple[str, int] | None = None
    fault: tuple[str, Fault] | None = None

    @property
    def versions(self) -> frozenset[str]:
        """Those that are named."""
        named = [pin.version for pin in self.pins] + list(self.orders_stay)
        return frozenset(named + [one[0] for one in (self.mirror, self.fault) if one is not None])


NO_RULES = Rules()


@dataclass(frozen=True, slots=True)
class Traffic:
    """All that is asked for of one service."""

    weights: Weights
    rules: Rules = NO_RULES


def encode_rules(rules: Rules) -> str:
    return json.dumps(asdict(rules), separators=(",", ":"))


def decode_rules(text: str) -> Rules:
    """Raises ValueError for what are no rules."""
    try:
        read: dict[str, Any] = json.loads(text)
        mirror, fault = read["mirror"], read["fault"]
        return Rules(
            salt=read["salt"],
            pins=tuple(Pin(**pin) for pin in read["pins"]),
            orders_stay=tuple(read["orders_stay"]),
            mirror=None if mirror is None else (mirror[0], mirror[1]),
            fault=None if fault is None else (fault[0], _fault(fault[1])),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"no rules: {type(error).__name__}") from error


def _fault(read: dict[str, Any]) -> Fault:
    return Fault(**{**read, "headers": tuple((name, value) for name, value in read["headers"])})
