"""What keeps the control plane from starting is said in one line, with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.server import main
from paymesh.server.envoy_binary import EnvoyNotFound


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gateway", "nonsense"], "nonsense: not HOST:PORT"),
        (["--gateway", "localhost:8080"], "localhost:8080: not IP:PORT"),
        (["--ext-proc", "127.0.0.1:70000"], "127.0.0.1:70000: not HOST:PORT"),
    ],
)
def test_addresses_for_envoy_are_ip_addresses(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.yaml").write_text("routes: []\n")
    assert main(["--policy", str(tmp_path), "--state", str(tmp_path / "data"), *flags]) == 2
    assert capsys.readouterr().err == f"{message}\n"
    assert not (tmp_path / "data").exists()


def test_a_bad_policy_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy.yaml").write_text("routs: []\n")
    assert main(["--policy", str(tmp_path), "--state", str(tmp_path / "data")]) == 2
    assert "unknown key" in capsys.readouterr().err


def test_a_state_that_is_no_database_is_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy.yaml").write_text("routes: []\n")
    (tmp_path / "weights.sqlite").write_text("not a database " * 100)
    assert main(["--policy", str(tmp_path / "policy.yaml"), "--state", str(tmp_path)]) == 2
    assert "not a database" in capsys.readouterr().err


def test_without_an_envoy_to_ask_it_starts_only_when_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> Path:
        raise EnvoyNotFound("no Envoy binary")

    monkeypatch.setattr("control_plane.flags.find_envoy", nowhere)
    (tmp_path / "policy.yaml").write_text("routes: []\n")
    flags = ["--policy", str(tmp_path / "policy.yaml"), "--state", str(tmp_path / "data")]
    assert main(flags) == 2
    assert "--unvalidated goes without" in capsys.readouterr().err
    # With the flag it gets as far as the next thing that is wrong.
    assert main([*flags, "--unvalidated", "--listen", "256.0.0.1:1"]) != 0
    assert "Envoy" not in capsys.readouterr().err


def test_what_the_first_policy_would_do_to_envoy_is_said_in_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.yaml").write_text(
        'services: [{name: a, versions: [{name: v1, endpoints: [{address: "::1%lo", port: 1}]}]}]\n'
    )
    assert main(["--policy", str(tmp_path / "policy.yaml"), "--state", str(tmp_path / "data")]) == 2
    assert "(envoy --mode validate):0: malformed IP address: ::1%lo" in capsys.readouterr().err
