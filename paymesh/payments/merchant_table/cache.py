"""Owns which merchants are in memory, by every name that they are called, and which names nobody has. Both are bounded;
what was used least recently goes first. Refuses I/O, and never answers for longer than it is told.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from paymesh.payments.merchant_table.compile_row import CompiledRow
from paymesh.payments.policy.callers import KeyRef


@dataclass(slots=True, eq=False)
class CachedMerchant:
    row: CompiledRow
    refs: frozenset[KeyRef]
    """The names that are this merchant's alone."""
    asked_at_s: float
    """When the query began that last showed the row as it is (monotonic)."""
    settled: bool
    """No other merchant is registered under any of its names. If one is, looking at the row again is not enough."""


class MerchantCache:
    """At most `size` merchants, and as many names that nobody has."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._merchants: OrderedDict[str, CachedMerchant] = OrderedDict()
        self._by_ref: dict[KeyRef, CachedMerchant] = {}
        self._nobody: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._merchants)

    @property
    def unknown(self) -> int:
        return len(self._nobody)

    def get(self, ref: KeyRef) -> CachedMerchant | None:
        found = self._by_ref.get(ref)
        if found is not None:
            self._merchants.move_to_end(found.row.merchant.id)
        return found

    def put(self, merchant: CachedMerchant) -> None:
        """In the place of what was known of it, and of whoever was thought to have one of its names."""
        known = self._merchants.get(merchant.row.merchant.id)
        if known is not None:
            self.drop(known)
        for ref in merchant.refs:
            other = self._by_ref.get(ref)
            if other is not None:
                self.drop(other)
            self._by_ref[ref] = merchant
            self._nobody.pop(_digest(ref), None)
        self._merchants[merchant.row.merchant.id] = merchant
        if len(self._merchants) > self._size:
            self.drop(next(iter(self._merchants.values())))

    def drop(self, merchant: CachedMerchant) -> None:
        """Forget it; nothing if another reading has taken its place."""
        if self._merchants.get(merchant.row.merchant.id) is not merchant:
            return
        del self._merchants[merchant.row.merchant.id]
        for ref in merchant.refs:
            if self._by_ref.get(ref) is merchant:
                del self._by_ref[ref]

    def nobody_since(self, ref: KeyRef) -> float | None:
        """When the query began that found nobody of that name; None if there was none."""
        return self._nobody.get(_digest(ref))

    def put_nobody(self, ref: KeyRef, asked_at_s: float) -> None:
        digest = _digest(ref)
        self._nobody[digest] = asked_at_s
        self._nobody.move_to_end(digest)
        if len(self._nobody) > self._size:
            self._nobody.popitem(last=False)


def _digest(ref: KeyRef) -> bytes:
    # Strangers choose these names, as long as they like: each takes the same little memory.
    return hashlib.blake2b(f"{ref.kind}\0{ref.name}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
