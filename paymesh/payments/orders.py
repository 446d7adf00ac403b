"""Owns what is known about an order while it is being paid: who attempts it, with which payload, how the attempt ended.

Refuses a second attempt beside a running one, and another payload under a number that may have been paid already.
The in-process store serves one worker; `shared_state/redis_orders.py` implements the same contract for many.
"""

from __future__ import annotations

import enum
import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from paymesh.payments.denial import Unavailable

MAX_ORDERS = 1_000_000
"""About 1 GB. Beyond it the store is Unavailable: dropping an order would let it be paid twice."""
MAX_ATTEMPTS = 3
"""Keys of one call: the order, an idempotency key, and one to spare."""
_SLACK = 1024  # stale entries of the expiry heap that are not worth sweeping


class Begun(enum.StrEnum):
    """What `begin` found, the mildest first."""

    NEW = "new"
    REPEAT = "repeat"
    """The same payload again, after an attempt that is over or counts as over."""
    IN_PROGRESS = "in_progress"
    CONFLICT = "conflict"
    """Another payload under the same key."""


_SEVERITY = {verdict: severity for severity, verdict in enumerate(Begun)}


class Finish(enum.StrEnum):
    """How an attempt ended."""

    DONE = "done"
    """Done or unknown: the upstream may have it."""
    REFUSED = "refused"
    """The upstream refused for certain: another payload may follow, the channel stays."""
    UNSENT = "unsent"
    """It never left the gateway: as if it had not begun."""


class Settled(enum.StrEnum):
    """What is known for certain of an order, whoever said so."""

    PAID = "paid"
    """Money moved, once and for all: nothing replaces it."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """What a later notification must agree with. `amount` in minor units. Not the order's number, of which only the
    key's digest is kept: people write phone numbers there."""

    amount: int | None
    currency: str | None
    app_id: str | None
    seller_id: str | None
    begun_at_s: int | None = None
    """Unix seconds of the first attempt: providers may know an order by it, so each repeat tells the same."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One key that a request claims. `key` is unique for its owner (a merchant id): `pay:ORD1`, `idempotency:...`.

    `lease_s`: seconds after which an attempt without an end counts as over, outcome unknown. `expires_at_s` (Unix
    seconds): when it may be forgotten, never before its lease is over.
    """

    owner: str
    key: str
    fingerprint: str
    attempt_id: str
    terms: OrderTerms | None
    channel: str | None
    lease_s: int
    expires_at_s: int


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An attempt as it stands in the store. `finished` is None while it runs, and when its end was never told."""

    fingerprint: str
    attempt_id: str
    terms: OrderTerms | None
    channel: str | None
    finished: Finish | None
    settled: Settled | None = None
    """Of the order, whichever attempt it was: what follows keeps it."""


@dataclass(frozen=True, slots=True)
class BeginAnswer:
    """`record`: the earlier attempt. With NEW it is one that was refused, whose channel is to be followed."""

    begun: Begun
    record: OrderRecord | None
    settled: Settled | None = None
    """Under any of the keys, not only in `record`: an idempotency key's must not hide its order's. PAID first."""


class OrderStore(Protocol):
    """Attempts by owner and key. Times are Unix seconds of the caller's clock."""

    async def begin(self, attempts: Sequence[Attempt], now_s: int) -> BeginAnswer:
        """Record all attempts (1 to 3 keys of one owner) or none: atomic, whoever else begins at the same moment.

        Any CONFLICT wins over IN_PROGRESS, that over REPEAT, that over NEW; only the last two record anything. A
        repeat keeps the first attempt's terms and channel. What follows a refused attempt keeps its channel. After
        Unavailable the attempts may or may not be recorded.
        """
        ...

    async def finish(self, owner: str, keys: Sequence[str], attempt_id: str, finish: Finish) -> None:
        """End the attempt where `attempt_id` holds the key; elsewhere without effect. Raises Unavailable.

        The first end counts, save that DONE may become REFUSED: what was unknown may be learnt later. UNSENT puts
        back what stood there before.
        """
        ...

    async def settle(self, owner: str, key: str, settled: Settled, now_s: int) -> None:
        """Record what is certain of an order. Without effect where none stands: nothing here could be paid twice.

        PAID replaces CLOSED, and nothing replaces PAID. Raises Unavailable.
        """
        ...

    async def find(self, owner: str, key: str, now_s: int) -> OrderRecord | None:
        """What stands there. Raises Unavailable."""
        ...


def check_attempts(attempts: Sequence[Attempt]) -> None:
    """ValueError for what no caller may ask: several owners, a key twice, none or too many."""
    if not 1 <= len(attempts) <= MAX_ATTEMPTS:
        raise ValueError(f"1 to {MAX_ATTEMPTS} attempts, not {len(attempts)}")
    if len({attempt.owner for attempt in attempts}) != 1:
        raise ValueError("attempts of several owners")
    if len({attempt.key for attempt in attempts}) != len(attempts):
        raise ValueError("the same key twice")


def remembered_until_s(attempt: Attempt, now_s: int) -> int:
    """A running attempt is not forgotten, whatever its caller says about expiry."""
    return max(attempt.expires_at_s, now_s + attempt.lease_s)


@dataclass(slots=True)
class _Held:
    record: OrderRecord
    lease_until_s: int
    expires_at_s: int
    previous: _Held | None = None

    def verdict(self, attempt: Attempt, now_s: int) -> Begun:
        if self.record.finished is Finish.REFUSED:
            return Begun.NEW
        if self.record.fingerprint != attempt.fingerprint:
            return Begun.CONFLICT
        if self.record.finished is None and now_s <= self.lease_until_s:
            return Begun.IN_PROGRESS
        return Begun.REPEAT


class InProcessOrders:
    """Orders in this process's memory, by a digest of owner and key."""

    def __init__(self, capacity: int = MAX_ORDERS) -> None:
        self._capacity = capacity
        self._held: dict[bytes, _Held] = {}
        self._expiry: list[tuple[int, bytes]] = []

    async def begin(self, attempts: Sequence[Attempt], now_s: int) -> BeginAnswer:
        check_attempts(attempts)
        self._forget_expired(now_s)
        digests = [_digest(attempt.owner, attempt.key) for attempt in attempts]
        earlier = [self._held.get(digest) for digest in digests]
        verdicts = [
            Begun.NEW if held is None else held.verdict(attempt, now_s)
            for held, attempt in zip(earlier, attempts, strict=True)
        ]
        begun = max(verdicts, key=_SEVERITY.__getitem__)
        standing = next((h.record for h, v in zip(earlier, verdicts, strict=True) if h and v is begun), None)
        settled = _strongest(held.record.settled for held in earlier if held is not None)
        if begun in (Begun.NEW, Begun.REPEAT):
            if len(self._held) + earlier.count(None) > self._capacity:
                raise Unavailable("the order store is full")
            for digest, attempt, held, verdict in zip(digests, attempts, earlier, verdicts, strict=True):
                self._put(digest, _begun(attempt, now_s, held, verdict, standing))
        return BeginAnswer(begun, standing, settled)

    async def finish(self, owner: str, keys: Sequence[str], attempt_id: str, finish: Finish) -> None:
        for key in keys:
            digest = _digest(owner, key)
            held = self._held.get(digest)
            if held is None or held.record.attempt_id != attempt_id:
                continue
            if held.record.finished is None and finish is Finish.UNSENT:
                self._restore(digest, held.previous, held.record.settled)
            elif held.record.finished is None or (held.record.finished, finish) == (Finish.DONE, Finish.REFUSED):
                held.record = replace(held.record, finished=finish)

    async def settle(self, owner: str, key: str, settled: Settled, now_s: int) -> None:
        held = self._held.get(_digest(owner, key))
        if held is not None and held.expires_at_s >= now_s and held.record.settled is not Settled.PAID:
            held.record = replace(held.record, settled=settled)

    async def find(self, owner: str, key: str, now_s: int) -> OrderRecord | None:
        held = self._held.get(_digest(owner, key))
        return None if held is None or held.expires_at_s < now_s else held.record

    def _put(self, digest: bytes, held: _Held) -> None:
        earlier = self._held.get(digest)
        self._held[digest] = held
        if earlier is None or earlier.expires_at_s < held.expires_at_s:
            heapq.heappush(self._expiry, (held.expires_at_s, digest))
            self._sweep()

    def _restore(self, digest: bytes, previous: _Held | None, settled: Settled | None) -> None:
        if previous is None:
            del self._held[digest]
        else:
            previous.record = replace(previous.record, settled=settled)
            self._held[digest] = previous
            heapq.heappush(self._expiry, (previous.expires_at_s, digest))
        self._sweep()

    def _forget_expired(self, now_s: int) -> None:
        while self._expiry and self._expiry[0][0] < now_s:
            _, digest = heapq.heappop(self._expiry)
            held = self._held.get(digest)
            if held is not None and held.expires_at_s < now_s:
                del self._held[digest]

    def _sweep(self) -> None:
        # Repeats and unsent attempts leave entries behind: without this a caller who repeats fills the memory.
        if len(self._expiry) > 2 * len(self._held) + _SLACK:
            self._expiry = [(held.expires_at_s, digest) for digest, held in self._held.items()]
            heapq.heapify(self._expiry)


def _begun(attempt: Attempt, now_s: int, held: _Held | None, verdict: Begun, standing: OrderRecord | None) -> _Held:
    if held is not None and verdict is Begun.REPEAT:
        record = replace(held.record, attempt_id=attempt.attempt_id, finished=None)
    else:
        channel = next(_channels(held, standing), attempt.channel)
        settled = None if held is None else held.record.settled
        record = OrderRecord(attempt.fingerprint, attempt.attempt_id, attempt.terms, channel, None, settled)
    expires_at_s = remembered_until_s(attempt, now_s)
    if held is not None:
        expires_at_s = max(expires_at_s, held.expires_at_s)
        held.previous = None  # one step back is enough: what it replaced was over already
    return _Held(record, now_s + attempt.lease_s, expires_at_s, held)


def _strongest(found: Iterable[Settled | None]) -> Settled | None:
    said = set(found)
    return next((settled for settled in (Settled.PAID, Settled.CLOSED) if settled in said), None)


def _channels(held: _Held | None, standing: OrderRecord | None) -> Iterator[str]:
    for record in (None if held is None else held.record, standing):
        if record is not None and record.channel is not None:
            yield record.channel


def _digest(owner: str, key: str) -> bytes:
    owner_bytes = owner.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(len(owner_bytes).to_bytes(4), digest_size=16)
    digest.update(owner_bytes)
    digest.update(key.encode("utf-8", "surrogatepass"))
    return digest.digest()
