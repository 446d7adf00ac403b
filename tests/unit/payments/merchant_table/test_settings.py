"""How `merchant_table` is written, and what is refused of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from paymesh.payments.merchant_table.address import PostgresAddress, SqliteAddress, parse_table_url
from paymesh.payments.merchant_table.settings import MerchantTable
from paymesh.payments.policy.compiled import Notifications
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.merchant_table_document import MerchantTableDocument, compile_merchant_table
from paymesh.payments.policy.references import References
from paymesh.payments.policy.yaml_source import Location, SourceTree
from paymesh.payments.secrets import Secret


def document(**members: Any) -> MerchantTableDocument:
    return MerchantTableDocument.model_validate({"url": {"env": "TABLE"}, **members})


def compiled(url: str, folder: Path) -> tuple[MerchantTable | None, list[str]]:
    tree = SourceTree(locations={(): Location(folder / "policy.yaml", 1)})
    findings = Findings(tree, References({"TABLE": url}))
    path = ("merchant_table",)
    none: dict[str, Notifications] = {}
    made = compile_merchant_table(document(), path, {}, ["payments"], [], none, findings)
    return made, [str(problem) for problem in findings.problems]


def test_what_is_not_written_has_the_documented_values(tmp_path: Path) -> None:
    made, problems = compiled("sqlite:///merchants.db", tmp_path)
    assert problems == []
    assert made is not None
    assert (made.cache_size, made.recheck_ms, made.timeout_ms, made.concurrency) == (10_000, 500, 100, 8)
    assert made.routes == {"payments"}


@pytest.mark.parametrize(
    "members",
    [
        {"url": "sqlite:///x"},
        {"url": {}},
        {"recheck": "2s"},
        {"recheck": "1001ms"},
        {"recheck": 500},
        {"recheck": "50ms"},  # shorter than the timeout
        {"timeout": "600ms"},
        {"cache_size": 0},
        {"concurrency": 0},
        {"concurrency": 65},
        {"table": "merchants"},
    ],
)
def test_refused(members: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        document(**members)


@pytest.mark.parametrize(
    "url", ["", "merchants.db", "sqlite://merchants.db", "sqlite:///", "sqlite:///a?b=hush", "mysql://u:hush@h/d"]
)
def test_a_url_that_cannot_be_used_is_a_problem_and_is_not_shown(tmp_path: Path, url: str) -> None:
    made, problems = compiled(url, tmp_path)
    assert made is None
    assert len(problems) == 1
    assert "hush" not in problems[0]
    assert "merchant_table.url" in problems[0]


def test_where_the_table_is(tmp_path: Path) -> None:
    assert parse_table_url(Secret(b"sqlite:///m%20x.db"), tmp_path) == SqliteAddress(tmp_path / "m x.db")
    assert parse_table_url(Secret(b"sqlite:////var/m.db"), tmp_path) == SqliteAddress(Path("/var/m.db"))
    dsn = Secret(b"postgresql://u:hush@h/d")
    assert parse_table_url(dsn, tmp_path) == PostgresAddress(dsn)
    assert "hush" not in repr(parse_table_url(dsn, tmp_path))
