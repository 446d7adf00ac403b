"""Owns the SDKs' own environments: SDKs that cannot be installed together each get a venv, made once a checkout.

Two SDKs own the module `alipay`, so neither can stand in the tests' environment. The venvs live in `.sdk-envs/` (or in
$PAYMESH_SDK_ENVS); a lock makes parallel test processes wait for the one that builds. What cannot be installed is an
error with pip's own words, never a skipped test.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DRIVERS = Path(__file__).resolve().parent / "drivers"
INSTALL_SECONDS = 300.0
CALL_SECONDS = 60.0
CHINA = "CST-8"
"""POSIX for UTC+8. The Alipay SDKs stamp requests with local time: their merchants' clocks are China's."""


@dataclass(frozen=True, slots=True)
class SdkEnvironment:
    """One SDK: what pip installs, and the driver script that speaks for it."""

    name: str
    requirements: tuple[str, ...]
    driver: str

    def python(self) -> Path:
        """The environment's interpreter; the environment is made if it is not there. Blocking. Raises RuntimeError."""
        base = Path(os.environ.get("PAYMESH_SDK_ENVS") or ROOT / ".sdk-envs")
        wanted = hashlib.sha256(" ".join((sys.version, *self.requirements)).encode()).hexdigest()[:12]
        folder = base / f"{self.name}-{wanted}"
        with _locked(base / f"{self.name}.lock"):
            if not (folder / "complete").exists():
                self._build(folder)
                (folder / "complete").touch()
        return folder / "bin" / "python"

    def call(
        self, url: str, keys: Mapping[str, str], calls: Sequence[Mapping[str, Any]], timezone: str = CHINA
    ) -> list[dict[str, Any]]:
        """Run the driver once for all `calls`. Each gives {"result": ...} or {"exception": type, "text": str}.

        `timezone` as in TZ. Raises RuntimeError if the driver itself fails.
        """
        python = self.python()
        environ = {"PATH": os.defpath, "TZ": timezone, "no_proxy": "*"}
        done = subprocess.run(
            [str(python), "-I", "-X", "utf8", str(DRIVERS / self.driver)],
            input=json.dumps({"url": url, "keys": dict(keys), "calls": list(calls)}),
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=environ,
            timeout=CALL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self.driver} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        found = json.loads(done.stdout)
        assert isinstance(found, list)
        return found

    def _build(self, folder: Path) -> None:
        # Left half-made by a run that was interrupted.
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, symlinks=True)
        command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
        # No byte code: one SDK has fourteen thousand modules, of which a test imports a few.
        options = ["--no-compile", "--no-input", "--disable-pip-version-check", "--quiet"]
        done = subprocess.run(
            [*command, *options, *self.requirements],
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"pip cannot install {self.requirements}:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")


ALIPAY_OFFICIAL = SdkEnvironment("alipay-sdk-python", ("alipay-sdk-python==3.7.1411",), "alipay_official.py")
ALIPAY_COMMUNITY = SdkEnvironment("python-alipay-sdk", ("python-alipay-sdk==3.4.0",), "alipay_community.py")


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    # The folder ignores itself, wherever it is: neither git nor a linter looks into it.
    (file.parent / ".gitignore").write_text("*\n", encoding="ascii")
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
