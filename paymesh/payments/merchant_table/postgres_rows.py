"""Owns reading the table from PostgreSQL. Imported only where a policy says so: a default install never loads it.

A connection whose call was given up is aborted and never used again; the server's own `statement_timeout` ends the
query there, so that a locked table does not gather sessions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]

from paymesh.payments.denial import Unavailable
from paymesh.payments.merchant_table.rows import MAX_CLAIMANTS, MAX_DOCUMENT_CHARS, Row, row_of, stamp_of
from paymesh.payments.policy.callers import KeyRef
from paymesh.payments.secrets import Secret

T = TypeVar("T")
CONNECT_TIMEOUT_S = 2.0
"""Longer than a look-up's: a connection with TLS and SCRAM is finished for the next caller."""

_KEYS = """
    coalesce((select json_agg(json_build_array(own.kind, own.name,
        (select count(*) from merchant_keys o where o.kind = own.kind and o.name = own.name))
        order by own.kind, own.name)::text from merchant_keys own where own.merchant_id = m.id), '[]')"""
_FIND = f"""
    select m.id, m.revision, {_KEYS}, case when length(m.document) <= {MAX_DOCUMENT_CHARS} then m.document end
    from merchant_keys k join merchants m on m.id = k.merchant_id
    where k.kind = $1 and k.name = $2 order by m.id limit {MAX_CLAIMANTS + 1}"""  # noqa: S608 - constants
_STAMPS = f"select m.id, m.revision, {_KEYS} from merchants m where m.id = any($1::text[])"  # noqa: S608

_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


class PostgresConnection:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, dsn: Secret, timeout_s: float) -> PostgresConnection:
        """`timeout_s`: of each query, on the server. Raises Unavailable."""
        settings = {"application_name": "paymesh", "statement_timeout": str(max(1, round(timeout_s * 1000)))}
        try:
            return cls(
                await asyncpg.connect(
                    dsn.reveal().decode(), timeout=CONNECT_TIMEOUT_S, server_settings=settings, statement_cache_size=8
                )
            )
        except (*_FAILURES, ValueError) as error:  # ValueError: a DSN that cannot be read
            # The driver's text may quote the DSN, so not even the cause goes along.
            raise Unavailable(f"merchant table: cannot connect, {type(error).__name__}") from None

    @property
    def alive(self) -> bool:
        return not self._connection.is_closed()

    async def find(self, ref: KeyRef) -> Sequence[Row]:
        try:
            rows = await self._ended(self._connection.fetch(_FIND, str(ref.kind), ref.name))
        except asyncpg.UntranslatableCharacterError:
            return ()  # the database's encoding has no such character: nobody there has that name
        return [row_of(*row) for row in rows]

    async def stamps(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        rows = await self._ended(self._connection.fetch(_STAMPS, list(ids)))
        return {merchant_id: stamp_of(revision, keys) for merchant_id, revision, keys in rows}

    def abandon(self) -> None:
        self._connection.terminate()

    async def close(self) -> None:
        self._connection.terminate()

    async def _ended(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except asyncpg.UntranslatableCharacterError:
            raise
        except _FAILURES as error:
            self._connection.terminate()
            raise Unavailable(f"merchant table: {type(error).__name__}") from error
