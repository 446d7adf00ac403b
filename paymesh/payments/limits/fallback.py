"""Owns what limits do while shared state cannot be asked: each its own `on_error`, decided in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paymesh.payments.denial import Unavailable
from paymesh.payments.limits.demands import Demand, Instant, LimitStore, Slot, Taken, Tokens, Used
from paymesh.payments.limits.in_process import InProcessLimits
from paymesh.payments.policy.rate_limits import OnError

OUTAGE_LEASE_S = 2
"""How long a slot counts here whose end is told to another worker: Envoy's access log goes to one of them."""
PERHAPS = "perhaps"
"""Held by a request whose call was cut off: it may have taken what it asked for."""


class LimitsWithFallback:
    """A `LimitStore` whose `take` raises Unavailable only for limits that say `deny`.

    What this process counts begins at nothing when an outage begins, and rests while shared state answers.
    """

    def __init__(self, shared: LimitStore) -> None:
        self._shared = shared
        self._local = InProcessLimits()

    async def take(self, demands: Sequence[Demand], request_id: str, now: Instant) -> Taken:
        try:
            return await self._shared.take(demands, request_id, now)
        except Unavailable:
            # A limit in shadow never stops a payment, whatever it says.
            if any(demand.enforced and demand.on_error is OnError.DENY for demand in demands):
                raise
        local = [_here(demand) for demand in demands if demand.on_error is OnError.LOCAL]
        taken = await self._local.take(local, request_id, now)
        perhaps = () if all(isinstance(demand, Tokens) for demand in demands) else (PERHAPS,)
        return replace(taken, without_store=tuple(demands), held=perhaps, granted={})

    async def end(self, request_id: str, held: Sequence[str] | None, *, carried_out: bool, now: Instant) -> None:
        await self._local.end(request_id, (), carried_out=carried_out, now=now)
        if held is not None and PERHAPS in held:
            held = None
        await self._shared.end(request_id, held, carried_out=carried_out, now=now)

    async def look(self, demands: Sequence[Demand], now: Instant) -> list[Used]:
        return await self._shared.look(demands, now)


def _here(demand: Demand) -> Demand:
    if isinstance(demand, Tokens):
        return replace(demand, batch=1)
    if isinstance(demand, Slot):
        return replace(demand, lease_s=min(demand.lease_s, OUTAGE_LEASE_S))
    return demand
