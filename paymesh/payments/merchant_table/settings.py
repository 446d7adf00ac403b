"""Owns the compiled `merchant_table` of a policy: where the table is, and what its rows are compiled against.

Two that are equal may share a cache; that is all that decides whether a reload keeps it. Refuses I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paymesh.payments.policy.rate_limits import RateLimit
from paymesh.payments.secrets import Secret


@dataclass(frozen=True, slots=True)
class MerchantTable:
    """Durations are milliseconds."""

    url: Secret
    folder: Path
    """Of the policy: what rows and a relative SQLite path refer to stands relative to it."""
    cache_size: int
    """Merchants."""
    recheck_ms: int
    timeout_ms: int
    concurrency: int
    """Look-ups of keys not in the cache, at once."""
    limits: Mapping[str, RateLimit]
    routes: frozenset[str]
    issuers: frozenset[str]
    sellers_required: bool
    """A channel has Alipay notifications: Alipay credentials need their `seller_id`."""
