"""docs/policy.md against the models, and the shipped example against both."""

from __future__ import annotations

from pathlib import Path

import pytest

from paymesh.payments.policy.documents import PolicyDocument
from paymesh.payments.policy.reference import main, updated

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "policy.md"


def test_the_reference_is_what_the_models_say() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == updated(text), "stale: run python -m paymesh.payments.policy.reference"
    for key in PolicyDocument.model_fields:
        assert f"| `{key}` |" in text


def test_a_stale_reference_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "policy.md"
    copy.write_text(DOCUMENT.read_text(encoding="utf-8").replace("| `burst` |", "| `bursts` |"), encoding="utf-8")
    assert main([str(copy), "--check"]) == 1
    assert "stale" in capsys.readouterr().err
    assert main([str(copy)]) == 0
    assert main([str(copy), "--check"]) == 0
