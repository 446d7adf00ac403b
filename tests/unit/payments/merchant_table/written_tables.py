"""Owns merchants' tables as somebody else fills them, in a real SQLite or PostgreSQL, and policies beside them."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import hmac
import json
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from paymesh.payments.credentials.claim import Claim
from paymesh.payments.merchant_table.directory import TableDirectory
from paymesh.payments.merchant_table.schema import key_rows, schema_sql
from paymesh.payments.merchant_table.settings import MerchantTable
from paymesh.payments.policy.callers import KeyKind, KeyRef, Scheme, TokenRate
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.rate_limits import RateLimit
from paymesh.payments.secrets import Secret
from tests.unit.payments.merchant_table.postgres_process import PostgresProcess

ENVIRON = {"FIRST": "first secret of sixteen", "SECOND": "second secret of sixteen"}
SIGNED = b"what was signed"
DOCUMENTS = """
merchants:
  - {id: inline, credentials: [{scheme: hmac, key_id: inline-key, secret: {env: FIRST}}]}
rate_limits: [{name: usual, requests_per_second: 5, burst: 5}]
services: [{name: s, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 1}]}]}]
routes: [{name: payments, match: {path: /v1/payments}, operation: other, schemes: [hmac], service: s}]
"""
LIMITS = {"usual": RateLimit("usual", (TokenRate(5, 1, 5),))}

Rows = Sequence[tuple[str, str]]


def hmac_document(merchant_id: str, key_id: str, secret: str = "FIRST", **more: object) -> dict[str, object]:
    """`secret`: of ENVIRON, or a file's name with a dot in it."""
    reference = {"file": secret} if "." in secret else {"env": secret}
    credential = {"scheme": "hmac", "key_id": key_id, "secret": reference}
    return {"id": merchant_id, "credentials": [credential], **more}


def hmac_claim(key_id: str, secret: str = ENVIRON["FIRST"]) -> Claim:
    signature = hmac.new(secret.encode(), SIGNED, hashlib.sha256).digest()
    return Claim(Scheme.HMAC, KeyRef(KeyKind.HMAC, key_id), signature, SIGNED)


async def caller(directory: TableDirectory, policy: Policy, claim: Claim) -> str | None:
    """The merchant whose key verifies the claim."""
    for key in await directory.keys(policy, claim):
        if key.verifier.verifies(claim.signature, claim.signed):
            assert key.merchant is not None
            return key.merchant.id
    return None


def documents(folder: Path, text: str = DOCUMENTS) -> Policy:
    (folder / "policy.yaml").write_text(text)
    return load_policy([folder], ENVIRON)


class WrittenTable:
    """A database with the schema, and its owner's hand in it. `url` is what a policy says."""

    url: str

    async def run(self, sql: str, *values: object) -> None:
        """A statement; values are written `{}`."""
        raise NotImplementedError

    async def close(self) -> None: ...

    async def break_it(self) -> None:
        """The database is gone."""
        raise NotImplementedError

    async def mend_it(self) -> None:
        raise NotImplementedError

    async def put(
        self, document: dict[str, Any] | str, *, merchant_id: str = "", revision: int = 1, keys: Rows | None = None
    ) -> None:
        """A merchant, instead of what was there; `keys`: default those that the document needs."""
        merchant_id = merchant_id or json.loads(json.dumps(document))["id"]
        text = document if isinstance(document, str) else json.dumps(document)
        if keys is None:
            keys = key_rows(text, Path(), ENVIRON)
        await self.remove(merchant_id)
        await self.run("insert into merchants values ({}, {}, {})", merchant_id, text, revision)
        await self.register(merchant_id, keys)

    async def register(self, merchant_id: str, keys: Iterable[tuple[str, str]]) -> None:
        for kind, name in keys:
            await self.run("insert into merchant_keys values ({}, {}, {})", str(kind), name, merchant_id)

    async def remove(self, merchant_id: str) -> None:
        await self.run("delete from merchant_keys where merchant_id = {}", merchant_id)
        await self.run("delete from merchants where id = {}", merchant_id)

    def settings(self, folder: Path, **changed: Any) -> MerchantTable:
        """Patient by default: a busy machine must not break what is not about time."""
        usual = MerchantTable(
            url=Secret(self.url.encode()),
            folder=folder,
            cache_size=100,
            recheck_ms=100,
            timeout_ms=10_000,
            concurrency=8,
            limits=LIMITS,
            routes=frozenset({"payments"}),
            issuers=frozenset(),
            sellers_required=False,
        )
        return dataclasses.replace(usual, **changed)


class SqliteTable(WrittenTable):
    def __init__(self, folder: Path) -> None:
        self._path = folder / "merchants.db"
        self._away = folder / "away.db"
        self.url = f"sqlite:///{self._path}"
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.executescript(schema_sql())

    async def run(self, sql: str, *values: object) -> None:
        self._connection.execute(sql.replace("{}", "?"), values)

    async def close(self) -> None:
        self._connection.close()

    async def break_it(self) -> None:
        self._path.rename(self._away)

    async def mend_it(self) -> None:
        self._away.rename(self._path)


class PostgresTable(WrittenTable):
    def __init__(self, process: PostgresProcess, name: str, connection: Any) -> None:
        self._process = process
        self._connection = connection
        self.url = process.url.removesuffix("postgres") + name

    @classmethod
    async def create(cls, process: PostgresProcess) -> PostgresTable:
        name = f"t{uuid.uuid4().hex}"
        connection = await asyncpg.connect(process.url)
        await connection.execute(f"create database {name}")
        await connection.close()
        made = cls(process, name, None)
        await made._connect()
        await made._connection.execute(schema_sql())
        return made

    async def run(self, sql: str, *values: object) -> None:
        for number in range(1, len(values) + 1):
            sql = sql.replace("{}", f"${number}", 1)
        await self._connection.execute(sql, *values)

    async def close(self) -> None:
        self._connection.terminate()

    async def break_it(self) -> None:
        await asyncio.to_thread(self._process.stop)

    async def mend_it(self) -> None:
        await asyncio.to_thread(self._process.start)
        self._connection.terminate()
        await self._connect()

    async def _connect(self) -> None:
        self._connection = await asyncpg.connect(self.url)
