"""The SDKs' environments: what cannot be installed fails loudly, and nothing half-made is taken for whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.sdk.environments import SdkEnvironment


def test_what_cannot_be_installed_is_an_error_in_pips_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMESH_SDK_ENVS", str(tmp_path / "envs"))
    missing = tmp_path / "no-such.whl"
    environment = SdkEnvironment("missing", (str(missing),), "alipay_official.py")
    for _ in range(2):
        # The second time as well: the half-made environment is not taken for a whole one.
        with pytest.raises(RuntimeError, match=r"pip cannot install .*no-such\.whl"):
            environment.python()
    assert (tmp_path / "envs" / ".gitignore").read_text() == "*\n"


def test_a_driver_that_fails_is_an_error_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests' own interpreter has no such SDK either.
    monkeypatch.setattr(SdkEnvironment, "python", lambda _: Path(sys.executable))
    environment = SdkEnvironment("empty", (), "alipay_official.py")
    with pytest.raises(RuntimeError, match="No module named 'alipay'"):
        environment.call("http://127.0.0.1:1", {}, [])
