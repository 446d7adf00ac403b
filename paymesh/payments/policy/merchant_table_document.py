"""Owns how `merchant_table` is written, and what it compiles to. Refuses a URL in clear: it may hold a password."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field, StrictInt, model_validator

from paymesh.payments.merchant_table.address import parse_table_url
from paymesh.payments.merchant_table.settings import MerchantTable
from paymesh.payments.policy.callers import Scheme
from paymesh.payments.policy.compiled import Notifications
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.policy.rate_limits import RateLimit
from paymesh.payments.policy.values import Document, Milliseconds, SecretReference
from paymesh.payments.secrets import Secret


class MerchantTableDocument(Document):
    """Merchants in an SQL table, looked up when they call. Those of the documents come first. The tables:
    `paymesh/payments/merchant_table/schema.sql`."""

    url: SecretReference = Field(
        description="Where the URL stands: sqlite:///PATH (relative to the policy's folder; absolute with four "
        "slashes) or postgresql://..."
    )
    cache_size: StrictInt = Field(10_000, ge=1, le=1_000_000, description="Merchants kept in memory.")
    recheck: Milliseconds = Field(
        500, ge=10, le=1000, description="A change, a revoked key above all, is seen within it."
    )
    timeout: Milliseconds = Field(100, ge=1, le=1000, description="Of a look-up; after it the answer is 503.")
    concurrency: StrictInt = Field(
        8, ge=1, le=64, description="Look-ups at once of keys not in memory; each has a connection."
    )

    @model_validator(mode="after")
    def _timeout_inside_recheck(self) -> MerchantTableDocument:
        # An answer may be as old as its query: a longer timeout would keep a revoked key for longer than `recheck`.
        if self.timeout > self.recheck:
            raise ValueError("timeout is longer than recheck")
        return self


def compile_merchant_table(
    document: MerchantTableDocument,
    path: DocumentPath,
    limits: Mapping[str, RateLimit],
    routes: Iterable[str],
    issuers: Iterable[str],
    notifications: Mapping[str, Notifications],
    findings: Findings,
) -> MerchantTable | None:
    """None with a problem where the URL cannot be used. The table itself is not asked."""
    url = findings.secret((*path, "url"), document.url)
    folder = findings.resolve(path, _folder_of, None)
    if url is None or folder is None or not _usable(url, folder, (*path, "url"), findings):
        return None
    return MerchantTable(
        url=url,
        folder=folder,
        cache_size=document.cache_size,
        recheck_ms=document.recheck,
        timeout_ms=document.timeout,
        concurrency=document.concurrency,
        limits=dict(limits),
        routes=frozenset(routes),
        issuers=frozenset(issuers),
        sellers_required=any(read.scheme is Scheme.ALIPAY_NOTIFICATION for read in notifications.values()),
    )


def _folder_of(_: object, beside: Path) -> Path:
    return beside.parent


def _usable(url: Secret, folder: Path, path: DocumentPath, findings: Findings) -> bool:
    try:
        parse_table_url(url, folder)
    except ValueError as error:
        findings.problem(path, str(error))
        return False
    return True
