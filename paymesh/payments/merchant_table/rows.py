"""Owns what is read of the table: a merchant's row with its keys, and the stamp by which a change is seen.

The stamp covers `merchant_keys` too: taking a key's row away revokes it, whether or not the revision was changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from paymesh.payments.policy.callers import KeyRef

MAX_DOCUMENT_CHARS = 65_536
MAX_CLAIMANTS = 8
"""Merchants registered under one key; a row more is read, to tell that there are too many."""


@dataclass(frozen=True, slots=True)
class Row:
    """One merchant's row as it stands in the table: nothing of it is checked yet."""

    id: str
    document: str | None = field(repr=False)
    """JSON; None where it is too long or no text."""
    claimants: Mapping[tuple[str, str], int] = field(repr=False)
    """How many merchants are registered under each (kind, name) of this one: one, if all is right."""
    stamp: bytes


class Connection(Protocol):
    """One connection to the table, used by one call at a time. Driver errors leave it as Unavailable."""

    @property
    def alive(self) -> bool: ...

    async def find(self, ref: KeyRef) -> Sequence[Row]:
        """Every merchant registered under `ref`, at most MAX_CLAIMANTS + 1. Raises Unavailable."""
        ...

    async def stamps(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        """The stamps of those merchants that are there. Raises Unavailable."""
        ...

    def abandon(self) -> None:
        """Make the call under way end soon. Waits for nothing."""
        ...

    async def close(self) -> None: ...


def row_of(merchant_id: str, revision: object, keys: str, document: object) -> Row:
    """`keys`: a JSON list of [kind, name, claimants], in a fixed order."""
    return Row(
        id=merchant_id,
        document=document if isinstance(document, str) else None,
        claimants={(kind, name): claimants for kind, name, claimants in json.loads(keys)},
        stamp=stamp_of(revision, keys),
    )


def stamp_of(revision: object, keys: str) -> bytes:
    return hashlib.blake2b(f"{revision!r} {keys}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
