"""Owns finding keys and merchants when some are in a table: the policy's documents first, the table for the rest.

Refuses a merchant of the table that has the id, a key or an identity of one in the documents.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from paymesh.payments.credentials.claim import Claim, KeyDirectory
from paymesh.payments.credentials.directory import PolicyKeys
from paymesh.payments.merchant_table.compile_row import CompiledRow
from paymesh.payments.merchant_table.settings import MerchantTable
from paymesh.payments.merchant_table.table import IDENTITIES, KEYS, OpenTable, TableStatus
from paymesh.payments.policy.callers import CredentialKey, KeyRef, Merchant
from paymesh.payments.policy.compiled import Policy

GRACE_S = 10.0
"""How long a table that a reload replaced stays open, for requests that began under the policy before."""


class TableDirectory:
    """`table_of`: a policy's table, if it has one. `documents`: asked first. `clock`: monotonic seconds."""

    def __init__(
        self,
        table_of: Callable[[Policy], MerchantTable | None],
        environ: Mapping[str, str],
        documents: KeyDirectory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table_of = table_of
        self._environ = environ
        self._documents = PolicyKeys() if documents is None else documents
        self._clock = clock
        self._open: list[_Opened] = []
        self._wanted: _Opened | None = None
        self._reaper: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def status(self) -> TableStatus | None:
        """Of the table asked last; None if there is none."""
        return None if self._wanted is None else self._wanted.table.status

    async def keys(self, policy: Policy, claim: Claim) -> tuple[CredentialKey, ...]:
        found = await self._documents.keys(policy, claim)
        if found or claim.presented is not None:
            return found
        for ref in (claim.key, *claim.other_names):
            merchant = await self._in_table(policy, ref) if ref.kind in KEYS else None
            if merchant is not None and ref in merchant.keys:
                return merchant.keys[ref]
        return ()

    async def merchant(self, policy: Policy, ref: KeyRef) -> Merchant | None:
        found = await self._documents.merchant(policy, ref)
        if found is not None or ref.kind not in IDENTITIES:
            return found
        merchant = await self._in_table(policy, ref)
        return None if merchant is None else merchant.merchant

    async def close(self) -> None:
        """End every connection. The next call would make new ones."""
        if self._reaper is not None:
            self._reaper.cancel()
        opened, self._open = self._open, []
        self._reaper = self._wanted = None
        await asyncio.gather(*(one.table.close() for one in opened), *self._closing)

    async def _in_table(self, policy: Policy, ref: KeyRef) -> CompiledRow | None:
        settings = self._table_of(policy)
        self._want(settings)
        if self._wanted is None:
            return None
        table = self._wanted.table
        found = await table.merchant(ref)
        if found is None:
            return None
        overlap = _overlap(policy, found)
        if overlap is not None:
            table.complain(found.merchant.id, [overlap])
            return None
        return found

    def _want(self, settings: MerchantTable | None) -> None:
        now_s = self._clock()
        self._wanted = None if settings is None else self._opened(settings, now_s)
        if self._wanted is not None:
            self._wanted.used_at_s = now_s
        if self._reaper is None and any(opened is not self._wanted for opened in self._open):
            self._reaper = asyncio.get_running_loop().call_later(GRACE_S, self._reap)

    def _opened(self, settings: MerchantTable, now_s: float) -> _Opened:
        for opened in self._open:
            if opened.settings is settings or opened.settings == settings:
                opened.settings = settings
                return opened
        opened = _Opened(settings, OpenTable(settings, self._environ, self._clock), now_s)
        self._open.append(opened)
        return opened

    def _reap(self) -> None:
        self._reaper = None
        now_s = self._clock()
        for opened in [one for one in self._open if one is not self._wanted and now_s - one.used_at_s >= GRACE_S]:
            self._open.remove(opened)
            task = asyncio.create_task(opened.table.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if any(opened is not self._wanted for opened in self._open):
            self._reaper = asyncio.get_running_loop().call_later(GRACE_S, self._reap)


class _Opened:
    __slots__ = ("settings", "table", "used_at_s")

    def __init__(self, settings: MerchantTable, table: OpenTable, used_at_s: float) -> None:
        self.settings = settings
        self.table = table
        self.used_at_s = used_at_s


def _overlap(policy: Policy, found: CompiledRow) -> str | None:
    """What a row has in common with the documents, as a refusal names it. Judged by the request's own policy."""
    if found.merchant.id in policy.merchants:
        return "id: a merchant of the policy's documents has it"
    for ref in found.refs:
        if ref in policy.keys or ref in policy.identities:
            return f"credentials: a merchant of the policy's documents has the same {ref.kind}"
    return None
