"""Rows compiled by the documents' rules, and the cache against a model of it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.merchant_table import compile_row as rows
from paymesh.payments.merchant_table.cache import CachedMerchant, MerchantCache
from paymesh.payments.merchant_table.rows import row_of
from paymesh.payments.merchant_table.schema import key_rows, schema_sql
from paymesh.payments.policy.callers import KeyKind, KeyRef, Merchant
from paymesh.payments.policy.references import References
from tests.unit.payments.merchant_table.written_tables import ENVIRON, WrittenTable, hmac_document

PUBLIC_KEY = (
    ed25519.Ed25519PrivateKey.generate()
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


def settings(folder: Path, **changed: Any) -> Any:
    table = WrittenTable()
    table.url = "sqlite:///x"
    return table.settings(folder, **changed)


def test_the_files_watched_are_the_files_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hmac.key").write_text("a secret of sixteen bytes")
    (tmp_path / "pub.pem").write_text(PUBLIC_KEY)
    document = hmac_document("shop", "k", "hmac.key")
    signed = {"scheme": "http_signature", "key_id": "s", "algorithm": "ed25519", "public_key": {"file": "pub.pem"}}
    unionpay = {"scheme": "unionpay", "mer_id": "7", "secure_key": {"file": "${AGAIN:-hmac.key}"}}
    document["credentials"] += [signed, unionpay]  # type: ignore[operator]
    text = json.dumps(document)
    made: list[References] = []

    class Watched(References):
        def __init__(self, environ: Any) -> None:
            super().__init__(environ)
            made.append(self)

    monkeypatch.setattr(rows, "References", Watched)
    registered = json.dumps([[kind, name, 1] for kind, name in key_rows(text, tmp_path, ENVIRON)])
    compiled = rows.compile_row(row_of("shop", 1, registered, text), settings(tmp_path), ENVIRON)
    assert set(compiled.files) == made[-1].touched == {tmp_path / "hmac.key", tmp_path / "pub.pem"}
    assert compiled.files == rows.file_states(compiled.files)
    (tmp_path / "pub.pem").unlink()
    assert compiled.files != rows.file_states(compiled.files)


def test_the_stamp_changes_with_the_revision_and_with_the_registered_keys() -> None:
    stamps = {
        row_of("shop", revision, keys, "{}").stamp
        for revision in (1, 2)
        for keys in ("[]", '[["hmac","a",1]]', '[["hmac","a",2]]')
    }
    assert len(stamps) == 6


def test_a_bad_document_is_named_without_its_values(tmp_path: Path) -> None:
    secret = {"scheme": "hmac", "key_id": "k", "secret": {"env": "hush hush", "file": 5}}
    text = json.dumps({"id": "shop", "credentials": [secret, {"scheme": "hmac"}], "hush": "hush"})
    with pytest.raises(rows.BadRow) as bad:
        key_rows(text, tmp_path, ENVIRON)
    assert {problem.partition(": ")[0] for problem in bad.value.problems} >= {
        "credentials[0].secret.env",
        "credentials[1].key_id",
        "hush",
    }
    assert "hush hush" not in str(bad.value)


@given(
    st.text(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "credentials", "scheme", "secret", "file", "env", "routes", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(json.dumps)
)
def test_any_text_in_a_row_is_a_merchant_or_a_bad_row(text: str) -> None:
    row = row_of("shop", 1, "[]", text)
    with contextlib.suppress(rows.BadRow):  # and nothing else
        assert rows.compile_row(row, settings(Path("/nonexistent")), ENVIRON).merchant.id == "shop"


def test_the_schema_has_both_tables() -> None:
    assert {"merchants", "merchant_keys"} <= set(schema_sql().split())


NAMES = [KeyRef(KeyKind.HMAC, name) for name in "abcdef"]
STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("uvwxy"), st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=3)),
    st.tuples(st.just("get"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("nobody"), st.sampled_from(NAMES), st.none()),
)


@given(st.lists(STEPS, max_size=60))
def test_the_cache_keeps_what_was_put_last_and_no_more_than_it_may(steps: list[tuple[str, Any, Any]]) -> None:
    cache = MerchantCache(3)
    latest: dict[str, CachedMerchant] = {}
    for step, what, refs in steps:
        if step == "put":
            compiled = rows.CompiledRow(Merchant(what, {}), {}, refs, frozenset(), {}, b"")
            latest[what] = CachedMerchant(compiled, refs, 0.0, settled=True)
            cache.put(latest[what])
            assert all(cache.get(ref) is latest[what] for ref in refs)
            assert all(cache.nobody_since(ref) is None for ref in refs)
        elif step == "get":
            found = cache.get(what)
            assert found is None or (what in found.refs and found is latest[found.row.merchant.id])
        else:
            cache.put_nobody(what, 1.0)
            assert cache.nobody_since(what) == 1.0
        assert len(cache) <= 3
        assert cache.unknown <= 3
        assert len({cache.get(ref) for ref in NAMES} - {None}) == len(cache)
