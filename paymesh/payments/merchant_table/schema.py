"""Owns the table's definition (schema.sql), and what `merchant_keys` has to hold for a merchant. Refuses to write it:
how rows come into a database is its owner's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from paymesh.payments.merchant_table.compile_row import credential_refs, read_document
from paymesh.payments.policy.callers import KeyRef


def schema_sql() -> str:
    """The statements that create the table, for SQLite and PostgreSQL alike."""
    return Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")


def key_rows(
    document: str, folder: Path, environ: Mapping[str, str], issuers: Iterable[str] = ()
) -> tuple[KeyRef, ...]:
    """(kind, name) of every row of `merchant_keys` for a merchant's document (JSON). Raises BadRow.

    Some names are computed from certificates, so what `document` refers to is read, relative to `folder`.
    """
    return tuple(sorted(credential_refs(read_document(document, environ), folder, environ, issuers)))
