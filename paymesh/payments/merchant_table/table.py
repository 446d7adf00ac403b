"""Owns one table as one policy sees it: its connections, its cache, and who is behind a name.

Refuses to tell an outage from nobody: what cannot be read in time is Unavailable. Refuses to guess between merchants:
a name that the documents of two rows claim lets neither in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from paymesh.payments.denial import Unavailable
from paymesh.payments.merchant_table.address import SqliteAddress, parse_table_url
from paymesh.payments.merchant_table.cache import CachedMerchant, MerchantCache
from paymesh.payments.merchant_table.compile_row import BadRow, CompiledRow, compile_row
from paymesh.payments.merchant_table.lane import Lane
from paymesh.payments.merchant_table.recheck import WIDTH, Rechecks
from paymesh.payments.merchant_table.rows import MAX_CLAIMANTS, Connection, Row
from paymesh.payments.merchant_table.settings import MerchantTable
from paymesh.payments.merchant_table.sqlite_rows import SqliteConnection
from paymesh.payments.policy.callers import KeyKind, KeyRef

_LOG = logging.getLogger(__name__)
QUEUED_FOR_EACH = 8
"""Look-ups that may wait for each that runs; more are Unavailable at once."""
MAX_NAME_CHARS = 2048
"""A SPIFFE ID's own limit, the longest of all names."""
_MAX_COMPLAINTS = 1000
KEYS = frozenset({KeyKind.WECHAT, KeyKind.ALIPAY, KeyKind.UNIONPAY, KeyKind.HMAC, KeyKind.HTTP_SIGNATURE, KeyKind.MTLS})
"""Kinds of keys that a merchant has; a provider's never come from the table."""
IDENTITIES = frozenset({KeyKind.MCHID, KeyKind.APP_ID, KeyKind.MER_ID, KeyKind.JWT})


@dataclass(frozen=True, slots=True)
class TableStatus:
    """What a table did since it was opened. `lookups`, `rechecks`: queries; a re-check asks for many merchants."""

    merchants: int
    unknown: int
    hits: int
    lookups: int
    rechecks: int


class OpenTable:
    """`environ`: what rows may refer to. `clock`: monotonic seconds."""

    def __init__(
        self, settings: MerchantTable, environ: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._clock = clock
        self._recheck_s = settings.recheck_ms / 1000
        self._timeout_s = settings.timeout_ms / 1000
        self._cache = MerchantCache(settings.cache_size)
        # A thread for whatever may block: each SQLite call has one, and no more calls run than there are places.
        self._threads = ThreadPoolExecutor(settings.concurrency + 2 * WIDTH, thread_name_prefix="merchant-table")
        connect = self._connect
        self._strangers = Lane(connect, settings.concurrency, QUEUED_FOR_EACH * settings.concurrency)
        # Merchants already known never wait behind names that anybody can make up.
        self._known = Lane(connect, WIDTH, settings.cache_size)
        recheck_lane = Lane(connect, WIDTH, WIDTH)
        self._recheck_lane = recheck_lane
        self._rechecks = Rechecks(recheck_lane, self._threads, self._timeout_s, clock)
        self._flights: dict[KeyRef, asyncio.Task[CachedMerchant | None]] = {}
        self._complaints: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._hits = 0

    @property
    def status(self) -> TableStatus:
        return TableStatus(
            merchants=len(self._cache),
            unknown=self._cache.unknown,
            hits=self._hits,
            lookups=self._strangers.calls + self._known.calls,
            rechecks=self._recheck_lane.calls,
        )

    async def merchant(self, ref: KeyRef) -> CompiledRow | None:
        """The one merchant that has this name; None if there is none. Raises Unavailable."""
        cached = self._cache.get(ref)
        if cached is None:
            since_s = self._cache.nobody_since(ref)
            if (since_s is not None and self._fresh(since_s)) or not _can_be_stored(ref.name):
                self._hits += 1
                return None
            return await self._flight(ref, self._strangers)
        if self._fresh(cached.asked_at_s):
            self._hits += 1
            return cached.row
        if cached.settled:
            since_s = await self._rechecks.stands_since(cached)
            if since_s is not None:
                cached.asked_at_s = max(cached.asked_at_s, since_s)
                return cached.row
        # It stays until the answer is there: in an outage it is still known, and still not believed.
        found = await self._flight(ref, self._known)
        if found is None:
            self._cache.drop(cached)
        return found

    async def close(self) -> None:
        """End the connections. Calls are Unavailable afterwards."""
        await asyncio.gather(self._strangers.close(), self._known.close(), self._recheck_lane.close())
        self._threads.shutdown(wait=False, cancel_futures=True)

    def complain(self, merchant_id: str, problems: Sequence[str]) -> None:
        """Say in the log why a merchant is refused: once, until the reason changes."""
        said = tuple(problems)
        if self._complaints.get(merchant_id) == said:
            return
        self._complaints[merchant_id] = said
        self._complaints.move_to_end(merchant_id)
        if len(self._complaints) > _MAX_COMPLAINTS:
            self._complaints.popitem(last=False)
        fields = {"merchant": merchant_id, "problems": list(said)}
        _LOG.error("merchant of the table refused", extra={"fields": fields})

    def _fresh(self, asked_at_s: float) -> bool:
        return self._clock() - asked_at_s < self._recheck_s

    # -- reading the table ---------------------------------------------------------------------------------------

    async def _flight(self, ref: KeyRef, lane: Lane) -> CompiledRow | None:
        """One look-up a name, whoever waits for it; it goes on when they stop waiting."""
        flight = self._flights.get(ref)
        if flight is None:
            flight = asyncio.create_task(self._find(ref, lane))
            self._flights[ref] = flight
            flight.add_done_callback(lambda _: self._landed(ref))
        cached = await asyncio.shield(flight)
        return None if cached is None else cached.row

    def _landed(self, ref: KeyRef) -> None:
        flight = self._flights.pop(ref)
        if not flight.cancelled():
            flight.exception()  # whoever waited may be gone

    async def _find(self, ref: KeyRef, lane: Lane) -> CachedMerchant | None:
        asked_at_s = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._owner(ref, lane)
                refs = None if found is None else await self._settled_refs(found, ref, lane)
        except TimeoutError as error:
            raise Unavailable("merchant table: no answer in time") from error
        if found is None or refs is None:
            self._cache.put_nobody(ref, asked_at_s)
            return None
        self._complaints.pop(found.merchant.id, None)
        cached = CachedMerchant(found, refs, asked_at_s, settled=not found.contested)
        self._cache.put(cached)
        return cached

    async def _owner(self, ref: KeyRef, lane: Lane) -> CompiledRow | None:
        """Of the rows registered under `ref`, the one whose document has it."""
        rows, compiled = await lane.run(partial(self._read, ref))
        if len(rows) > MAX_CLAIMANTS:
            self.complain(rows[0].id, [f"more than {MAX_CLAIMANTS} merchants are registered under one of its names"])
            return None
        for row, result in zip(rows, compiled, strict=False):
            if isinstance(result, BadRow):
                self.complain(row.id, result.problems)
        owners = [result for result in compiled if isinstance(result, CompiledRow) and ref in result.refs]
        if len(owners) == 1:
            return owners[0]
        for owner in owners:
            self.complain(owner.merchant.id, [f"another merchant has the same {ref.kind}"])
        return None

    async def _read(self, ref: KeyRef, connection: Connection) -> tuple[Sequence[Row], Sequence[CompiledRow | BadRow]]:
        rows = await connection.find(ref)
        if not rows or len(rows) > MAX_CLAIMANTS:
            return rows, []
        compiled = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: [self._compile(row) for row in rows]
        )
        return rows, compiled

    def _compile(self, row: Row) -> CompiledRow | BadRow:
        try:
            return compile_row(row, self._settings, self._environ)
        except BadRow as bad:
            return bad

    async def _settled_refs(self, found: CompiledRow, ref: KeyRef, lane: Lane) -> frozenset[KeyRef] | None:
        """The names that are certainly this merchant's; None if an identity of it is another's as well."""
        sure = found.refs - found.contested | {ref}
        for identity in found.contested - {ref}:
            if identity.kind not in IDENTITIES:
                continue
            owner = await self._owner(identity, lane)
            if owner is None or owner.merchant.id != found.merchant.id:
                return None
            sure |= {identity}
        return sure

    async def _connect(self) -> Connection:
        try:
            address = parse_table_url(self._settings.url, self._settings.folder)
        except ValueError as error:  # refused when the policy was compiled
            raise Unavailable(f"merchant table: {error}") from error
        if isinstance(address, SqliteAddress):
            return SqliteConnection(address.path, self._timeout_s, self._threads)
        # Only who has a PostgreSQL needs its driver.
        from paymesh.payments.merchant_table.postgres_rows import PostgresConnection

        return await PostgresConnection.open(address.dsn, self._timeout_s)


def _can_be_stored(name: str) -> bool:
    """Whether some row could have this name: a request can hold what no text column can."""
    if len(name) > MAX_NAME_CHARS or "\0" in name:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
