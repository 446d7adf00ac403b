"""Owns what the policy says of channels beyond their bounds, compiled: cards, opening hours, and how a route chooses
among those that may take a payment. Refuses I/O; the choosing itself is `paymesh/payments/channels`.

Shares are of 10,000; amounts are minor units; channels are named, and the names are those of the route's channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from paymesh.payments.fees import CardType

WEEK_S = 7 * 86_400
_MONDAY_S = 3 * 86_400
"""1970 began on a Thursday."""


@dataclass(frozen=True, slots=True)
class CardLimits:
    """The cards that a channel takes; a payment of which no card is known is none of them."""

    types: frozenset[CardType] | None = None
    bins: tuple[str, ...] | None = None
    """Beginnings of card numbers, up to eight digits."""


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """When a channel is open, each week the same. `spans`: seconds since Monday 0:00 at that offset, the end not in
    it."""

    utc_offset_s: int
    spans: tuple[tuple[int, int], ...]

    def open_at(self, now_s: int) -> bool:
        """`now_s`: Unix seconds."""
        moment = (now_s + self.utc_offset_s + _MONDAY_S) % WEEK_S
        return any(opens <= moment < closes for opens, closes in self.spans)


@dataclass(frozen=True, slots=True)
class When:
    """What a payment is, for a rule to be about it. None: whatever it is."""

    products: frozenset[str] | None = None
    currencies: frozenset[str] | None = None
    merchants: frozenset[str] | None = None
    tiers: frozenset[str] | None = None
    min_amount: int | None = None
    max_amount: int | None = None
    cards: CardLimits | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """`only`: no other channel takes such a payment; otherwise these go before the others."""

    when: When
    channels: frozenset[str]
    only: bool


@dataclass(frozen=True, slots=True)
class Elimination:
    """When a channel is out, and what brings it back.

    Out after `failures` in a row, or when more than `failure_rate` of the watch's `min_samples` or more in the window
    failed. Then nobody goes there for `pause_s`, and after that a share of the orders, until `probe_successes` of them
    in a row.
    """

    failures: int | None
    failure_rate: int | None
    pause_s: int
    probe_successes: int


@dataclass(frozen=True, slots=True)
class Watch:
    """How a channel's payment outcomes are counted for somebody. Equal ones count together. With fewer than
    `min_samples` nothing is said of a rate."""

    window_s: int
    min_samples: int
    elimination: Elimination | None = None
    name: str = field(init=False, repr=False, compare=False)
    """The same for equal ones, and quicker to look up by."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", repr(self))


@dataclass(frozen=True, slots=True)
class ByRules:
    """The first rule that is about a payment counts, and no other."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class ByPriority:
    """Those of the lowest number."""


@dataclass(frozen=True, slots=True)
class ByWeight:
    """One, the same for the same order. A channel without a weight gets nothing while another has one."""

    weights: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ByCost:
    """Those whose fee for this payment is lowest."""


@dataclass(frozen=True, slots=True)
class BySuccess:
    """Those whose success rate is at most `band` below the best; `explore` of the orders go to another one."""

    watch: Watch
    band: int
    explore: int


@dataclass(frozen=True, slots=True)
class Eliminate:
    """Those that are not out. `try_when_all_out`: if all are, none is left out."""

    watch: Watch
    probe_share: int
    try_when_all_out: bool


@dataclass(frozen=True, slots=True)
class ByDefault:
    """This one, if nobody is left."""

    channel: str


Strategy = ByRules | ByPriority | ByWeight | ByCost | BySuccess | Eliminate | ByDefault
