"""The real Envoy is found, and takes the bootstrap that we ship."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from paymesh.cli.stack import bootstrap
from paymesh.cli.stack.bootstrap import bootstrap_file, render_bootstrap
from paymesh.server.envoy_binary import EnvoyNotFound, find_envoy


def test_the_binary_is_an_envoy() -> None:
    version = subprocess.run([find_envoy(), "--version"], capture_output=True, text=True, check=True).stdout
    assert "/1.40." in version


def test_no_binary_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EnvoyNotFound, match="pip install"):
        find_envoy()


@pytest.mark.data_plane
@pytest.mark.parametrize("rendered", [False, True], ids=["as shipped", "with other ports"])
def test_envoy_accepts_the_bootstrap(rendered: bool, tmp_path: Path) -> None:
    file = bootstrap_file()
    if rendered:
        file = tmp_path / "bootstrap.yaml"
        file.write_text(render_bootstrap(admin_port=19901, xds_port=28000))
    checked = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    for complaint in ("deprecated", "Unknown", "unknown field", "not setup"):
        assert complaint not in checked.stderr


def test_only_the_ports_and_the_node_change() -> None:
    shipped = yaml.safe_load(bootstrap_file().read_text())
    rendered = yaml.safe_load(render_bootstrap(admin_port=1, xds_port=2, node_id="gateway-7"))
    assert rendered["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 1}
    assert rendered["node"]["id"] == "gateway-7"
    text = yaml.safe_dump(rendered).replace("port_value: 1\n", "port_value: 9901\n")
    text = text.replace("port_value: 2\n", "port_value: 18000\n").replace("gateway-7", shipped["node"]["id"])
    assert yaml.safe_load(text) == shipped


def test_an_installed_package_reads_its_own_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bootstrap, "_IN_CHECKOUT", tmp_path / "absent.yaml")
    assert bootstrap_file() == Path(bootstrap.__file__).with_name("bootstrap.yaml")
