"""Owns tokens that a worker takes ahead: most requests are then decided without asking shared state.

The bound, for W workers, batches of B and a bucket of rate r and burst b: in any time t at most b + r*t + W*B are
admitted, since what was leased before it began may be used in it. At most W*B tokens are lost in LEASE_S, when demand
stops; under full demand none. A worker has one batch under way at a time: others ask for what they need alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from paymesh.payments.limits.demands import BucketKey, Demand, Instant, LimitStore, Taken, Tokens, Used

LEASE_S = 1
"""After it, what was not used is lost: tokens of long ago must not be spent in a new burst."""
_SECOND_NS = 1_000_000_000
_SWEEP_AT = 10_000


@dataclass(slots=True)
class _Lease:
    tokens: int
    until_ns: int


class LeasedTokens:
    """A `LimitStore` before another: keeps batches for the demands that ask for them (`Tokens.batch`)."""

    def __init__(self, shared: LimitStore) -> None:
        self._shared = shared
        self._leases: dict[BucketKey, _Lease] = {}
        self._fetching: set[BucketKey] = set()

    async def take(self, demands: Sequence[Demand], request_id: str, now: Instant) -> Taken:
        if not any(isinstance(demand, Tokens) and demand.batch > 1 for demand in demands):
            return await self._shared.take(demands, request_id, now)
        asked: list[Demand] = []
        from_lease: list[Tokens] = []
        fetching: list[BucketKey] = []
        for demand in demands:
            if not isinstance(demand, Tokens) or demand.batch == 1:
                asked.append(demand)
            elif self._spend(demand, now):
                from_lease.append(demand)
            elif demand.bucket in self._fetching:
                asked.append(replace(demand, batch=1))
            else:
                fetching.append(demand.bucket)
                asked.append(demand)
        if not asked:
            return Taken()
        self._fetching.update(fetching)
        admitted = False
        try:
            taken = await self._shared.take(asked, request_id, now)
            admitted = taken.admitted
        finally:
            self._fetching.difference_update(fetching)
            if not admitted:
                for demand in from_lease:
                    if demand.bucket in self._leases:  # else its time is over
                        self._leases[demand.bucket].tokens += demand.cost
        for demand in asked:
            if isinstance(demand, Tokens) and taken.granted.get(demand.bucket, 0) > demand.cost:
                self._keep(demand, taken.granted[demand.bucket] - demand.cost, now)
        return replace(taken, granted={})

    async def end(self, request_id: str, held: Sequence[str] | None, *, carried_out: bool, now: Instant) -> None:
        await self._shared.end(request_id, held, carried_out=carried_out, now=now)

    async def look(self, demands: Sequence[Demand], now: Instant) -> list[Used]:
        return await self._shared.look(demands, now)

    def _spend(self, demand: Tokens, now: Instant) -> bool:
        lease = self._leases.get(demand.bucket)
        if lease is None or lease.until_ns <= now.monotonic_ns or lease.tokens < demand.cost:
            return False
        lease.tokens -= demand.cost
        return True

    def _keep(self, demand: Tokens, tokens: int, now: Instant) -> None:
        # The old lease's rest is lost rather than kept longer than it may be.
        self._leases[demand.bucket] = _Lease(tokens, now.monotonic_ns + LEASE_S * _SECOND_NS)
        if len(self._leases) > _SWEEP_AT:
            self._leases = {key: one for key, one in self._leases.items() if one.until_ns > now.monotonic_ns}
