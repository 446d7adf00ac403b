"""Owns what a caller and the log are told of a limit that refused."""

from __future__ import annotations

from paymesh.payments.denial import Denial, LimitTold, Reason
from paymesh.payments.limits.demands import Exhausted, Quota, Slot, Tokens

_DAY_S = 86_400


def limit_denial(exhausted: Exhausted) -> Denial:
    """429, with what was exceeded and when to come again."""
    demand = exhausted.demand
    if isinstance(demand, Tokens):
        rate = demand.rate
        told = LimitTold(demand.limit, rate.burst, -(-rate.burst * rate.per_s // rate.tokens))
        per = "s" if rate.per_s == 1 else f"{rate.per_s}s"
        detail = f"{demand.limit}: {rate.tokens}/{per}, burst {rate.burst}"
    elif isinstance(demand, Slot):
        told = LimitTold(demand.limit, demand.max, None)
        detail = f"{demand.limit}: {demand.max} at once"
    else:
        assert isinstance(demand, Quota)
        told = LimitTold(demand.limit, demand.max, _DAY_S)
        detail = f"{demand.limit}: {demand.max} a day"
    return Denial(Reason.RATE_LIMITED, detail, retry_after_s=exhausted.retry_after_s, limit=told)
