"""The configuration centre of a control plane process with the real Envoy: applied, dumped, taken back, restarted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from paymesh.cli.main import main
from tests.xds.test_real_envoy import Stack, eventually

pytestmark = pytest.mark.data_plane
POLICY = """
services: [{name: bills, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 9}]}]}]
routes: [{name: %s, match: {prefix: /bills/}, operation: other, service: bills}]
"""


@pytest.fixture
def stack(tmp_path: Path, demo_environ: dict[str, str]) -> Iterator[Stack]:
    built = Stack(tmp_path, demo_environ)
    for file in built.policy.glob("*.yaml"):
        file.unlink()
    (built.policy / "policy.yaml").write_text(POLICY % "first")
    try:
        built.start_control_plane("--config-centre")
        yield built
    finally:
        built.stop()
    assert "Traceback" not in built.log()


def test_applied_dumped_taken_back_and_there_after_a_restart(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    admin = ["--admin", stack.ports.address("admin")]

    def version() -> str:
        assert main(["config", "history", "-o", "json", *admin]) == 0
        return str(json.loads(capsys.readouterr().out)[0]["version"])

    def routes() -> list[str]:
        return [item["name"] for item in stack.envoys_routes()]

    stack.start_envoy()
    eventually(stack.settled, "Envoy did not take the configuration")
    first = version()
    # The files that it began with are not followed any more.
    (stack.policy / "policy.yaml").write_text(POLICY % "second")
    apply = ["config", "apply", str(stack.policy / "policy.yaml"), "--reason", "a test", *admin]
    assert main([*apply, "--if-version", "none"]) == 3
    assert f"version {first} is in force, not none" in capsys.readouterr().err
    assert main([*apply, "--if-version", first]) == 0
    eventually(lambda: "second" in routes(), "Envoy has no new route")

    eventually(stack.settled, "not settled")
    capsys.readouterr()
    assert main(["config", "dump", "gateway-1", *admin]) == 0
    dumped = json.loads(capsys.readouterr().out)
    (configuration,) = dumped["RouteConfiguration"]
    assert [item["name"] for item in configuration["virtual_hosts"][0]["routes"]] == routes()
    assert {"Cluster", "ClusterLoadAssignment", "Listener"} <= dumped.keys()

    stack.control_plane.kill()
    stack.control_plane.wait()
    stack.start_control_plane("--config-centre")
    eventually(stack.settled, "Envoy did not come back")
    assert "second" in routes()
    second = version()
    assert main(["config", "rollback", first, "--if-version", second, "--reason", "back", *admin]) == 0
    eventually(lambda: "first" in routes(), "not taken back")
