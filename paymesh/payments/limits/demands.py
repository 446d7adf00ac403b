"""Owns what one request asks of its limits, what came of that, and the contract of whoever counts.

Three things can be asked for. Tokens, which come back with time. A slot, held until the request is over. Part of a
day's quota, which comes back only if the request is known not to have been carried out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from paymesh.payments.policy.callers import TokenRate
from paymesh.payments.policy.rate_limits import OnError

SLOT_RETRY_AFTER_S = 1
"""When a slot comes free is not known."""


BucketKey = tuple[tuple[str, ...], int]
"""A demand's key and its rate's `per_s`, in which a level is counted: a limit may have several windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one limit wants of a request. `key`: the limit's name, then the value of each of its dimensions."""

    key: tuple[str, ...]
    on_error: OnError = OnError.LOCAL
    enforced: bool = True
    """False: it takes and tells, and never refuses."""

    @property
    def limit(self) -> str:
        return self.key[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens(Demand):
    """Tokens of one bucket. A bucket's size may change without losing its level, but for `rate.per_s`."""

    rate: TokenRate
    cost: int = 1
    batch: int = 1
    """Up to so many are taken ahead where the store can keep them; never fewer than `cost`."""
    count_refused: bool = False
    """Refused, it takes its tokens all the same, down to one burst below empty."""

    @property
    def bucket(self) -> BucketKey:
        return self.key, self.rate.per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot(Demand):
    """One of `max` requests at once. A slot whose end nobody tells is free again after `lease_s`."""

    max: int
    lease_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota(Demand):
    """`cost` of the `max` of a calendar day, which begins `day_begins_s` before that of UTC."""

    max: int
    cost: int = 1
    day_begins_s: int = 0


@dataclass(frozen=True, slots=True)
class Instant:
    """Now, by both clocks of this process. A store that is shared goes by its own instead."""

    monotonic_ns: int
    unix_s: int


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A demand that was not met, and the whole seconds (rounded up, at least 1) after which it may be."""

    demand: Demand
    retry_after_s: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one request's demands."""

    refused: Exhausted | None = None
    """The enforced demand that has to be waited for longest; then nothing was taken for any."""
    shadowed: tuple[Demand, ...] = ()
    """Those in shadow mode that would have refused."""
    without_store: tuple[Demand, ...] = ()
    """Those whose shared state could not be asked: their `on_error` decided."""
    held: tuple[str, ...] = ()
    """What `end` has to be told: slots and quotas, a word each, no caller's text in it."""
    granted: Mapping[BucketKey, int] = field(default_factory=dict)
    """Tokens taken, where a batch was asked for."""

    @property
    def admitted(self) -> bool:
        return self.refused is None


@dataclass(frozen=True, slots=True)
class Used:
    """How much of a limit is used now, of how much: tokens that are away, slots that are held, quota that is spent."""

    used: int
    of: int


class LimitStore(Protocol):
    """Counts. Of one request's demands no two are of the same bucket, slot or quota."""

    async def take(self, demands: Sequence[Demand], request_id: str, now: Instant) -> Taken:
        """Meet every demand, or take nothing. `request_id` is unique to the request. Raises Unavailable, when
        something may have been taken all the same: `end` with no `held` then gives it back."""
        ...

    async def end(self, request_id: str, held: Sequence[str] | None, *, carried_out: bool, now: Instant) -> None:
        """The request is over: its slots are free. `carried_out` False, which must be certain: its quotas come back.

        May be told twice. `held` None: it is not known what was taken, and it may even be taken later; what comes
        within OUTRUN_S is not kept. Raises Unavailable.
        """
        ...

    async def look(self, demands: Sequence[Demand], now: Instant) -> list[Used]:
        """How much of each is used; takes nothing. Raises Unavailable."""
        ...


OUTRUN_S = 60
"""How long after a request's end its demands are still known to be void. A check lasts a second at most."""


def judge(demands: Sequence[Demand], waits_s: Sequence[int]) -> tuple[Exhausted | None, tuple[Demand, ...]]:
    """Who refuses and who would have, from how long each has to be waited for (whole seconds; 0: it is met)."""
    refused: Exhausted | None = None
    shadowed = []
    for demand, wait_s in zip(demands, waits_s, strict=True):
        if wait_s and not demand.enforced:
            shadowed.append(demand)
        elif wait_s and (refused is None or wait_s > refused.retry_after_s):
            refused = Exhausted(demand, wait_s)
    return refused, tuple(shadowed)
