"""`paymesh decrypt` and `paymesh hash`, as a person uses them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from paymesh.cli.main import main
from paymesh.payments.fields.keyed_values import encrypt, keyed_hash
from paymesh.payments.policy.load import load_policy

POLICY = """
field_keys:
  - name: pii
    keys:
      - {id: k2, secret: {file: k2.key}, valid_from: 2020-01-01T00:00:00Z}
      - {id: k1, secret: {file: k1.key}}
  - name: other
    keys: [{id: o1, secret: {file: o1.key}}]
"""
NOW_S = 1_790_000_000


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    for name in ("k1", "k2", "o1"):
        (tmp_path / f"{name}.key").write_bytes(name.encode().ljust(32, b"."))
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path / "policy.yaml"


def test_decrypt_copies_a_text_with_its_values_in_clear(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rings = load_policy([policy], {}).field_keys
    old = encrypt(rings["pii"], "13812341234", 0, os.urandom)
    new, other = encrypt(rings["pii"], "张三", NOW_S, os.urandom), encrypt(rings["other"], "x", NOW_S, os.urandom)
    text = policy.with_name("dump.jsonl")
    text.write_text(f'{{"phone": "{old}", "name": "{new}"}}\n{{"note": "{other}"}}\n')
    assert main(["decrypt", str(text), "--policy", str(policy)]) == 0
    assert capsys.readouterr().out == '{"phone": "13812341234", "name": "张三"}\n{"note": "x"}\n'


def test_decrypt_reads_standard_input(
    policy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = encrypt(load_policy([policy], {}).field_keys["pii"], "secret", NOW_S, os.urandom)
    monkeypatch.setattr("sys.stdin", io.StringIO(value))
    assert main(["decrypt", "--policy", str(policy), "--keys", "pii"]) == 0
    assert capsys.readouterr().out == "secret"


def test_what_cannot_be_decrypted_stays_and_is_told(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rings = load_policy([policy], {}).field_keys
    value = encrypt(rings["other"], "x", NOW_S, os.urandom)
    text = policy.with_name("dump.txt")
    text.write_text(f"{value}\n{value[:-3]}AAA\n")
    assert main(["decrypt", str(text), "--policy", str(policy), "--keys", "pii"]) == 1
    shown = capsys.readouterr()
    assert shown.out == text.read_text()
    assert shown.err == "no key o1 here\n"
    assert main(["decrypt", str(text), "--policy", str(policy)]) == 1
    assert capsys.readouterr().err == "not made with key o1, or changed since\n"


def test_hash_shows_the_value_under_every_key(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ring = load_policy([policy], {}).field_keys["pii"]
    values = policy.with_name("values.txt")
    values.write_text("13812341234\n")
    assert main(["hash", str(values), "--policy", str(policy), "--keys", "pii"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert keyed_hash(ring, "13812341234", 0) in shown
    assert keyed_hash(ring, "13812341234", NOW_S) in shown
    assert len(shown) == 2


@pytest.mark.parametrize("verb", ["hash", "decrypt"])
def test_unusable_input_is_named(verb: str, policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--policy", str(policy), "--keys", "nowhere"]) == 2
    assert capsys.readouterr().err == "the policy has no field_keys nowhere (it has: other, pii)\n"
    binary = policy.with_name("binary")
    binary.write_bytes(b"\xff\xfe")
    assert main([verb, str(binary), "--policy", str(policy)]) == 2
    assert capsys.readouterr().err == "the text is not UTF-8\n"
