"""The real Envoy accepts what is built, and the bootstrap it starts with."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from paymesh.cli.stack.bootstrap import bootstrap_file, render_bootstrap
from paymesh.cli.stack.demo_certificates import authority
from paymesh.server.envoy_binary import find_envoy

AUTHORITY = authority("golden").certificate_pem.decode()
TESTDATA = Path(__file__).parent / "testdata"
POLICIES = sorted(file for file in TESTDATA.glob("*.yaml") if not file.name.endswith(".golden.yaml"))

pytestmark = pytest.mark.data_plane


def validate(file: Path) -> None:
    """Raises with Envoy's words if it refuses the file."""
    done = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", file, "--log-level", "error"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def static(resources: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The same configuration without a control plane: what is discovered stands where it is referred to."""
    resources = copy.deepcopy(resources)
    listener = resources["listeners"]["paymesh"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"] = resources["routes"][manager.pop("rds")["route_config_name"]]
    # Stricter than a control plane's: a route to an unknown cluster is refused.
    manager["route_config"]["validate_clusters"] = True
    for name, cluster in resources["clusters"].items():
        if cluster.get("health_checks"):
            for check in cluster["health_checks"]:
                check.pop("event_logger", None)  # its folder is on no machine but Envoy's
        if cluster.pop("eds_cluster_config", None) is not None:
            cluster.update(type="STATIC", load_assignment=resources["endpoints"][name])
        _inline(cluster.get("transport_socket", {}).get("typed_config", {}).get("common_tls_context", {}), resources)
    return {"static_resources": {"listeners": [listener], "clusters": list(resources["clusters"].values())}}


def _inline(tls: dict[str, Any], resources: dict[str, dict[str, Any]]) -> None:
    """Secrets stand where they are referred to, and hold no files: there are none on this machine."""
    for config in tls.pop("tls_certificate_sds_secret_configs", []):
        assert "tls_certificate" in resources["secrets"][config["name"]]
    combined = tls.get("combined_validation_context", {})
    if combined:
        assert "validation_context" in resources["secrets"][combined["validation_context_sds_secret_config"]["name"]]
        tls["validation_context"] = combined["default_validation_context"]
        tls["validation_context"]["trusted_ca"] = {"inline_string": AUTHORITY}
        del tls["combined_validation_context"]


@pytest.mark.parametrize("file", POLICIES, ids=lambda file: file.stem)
def test_every_golden_configuration_is_accepted(file: Path, build: Any, tmp_path: Path) -> None:
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps(static(build(file).resources)))
    validate(config)


def test_the_shipped_bootstrap_is_accepted() -> None:
    validate(bootstrap_file())


def test_the_rendered_bootstrap_is_accepted(tmp_path: Path) -> None:
    config = tmp_path / "bootstrap.yaml"
    config.write_text(render_bootstrap(admin_port=19901, xds_port=19000, node_id="another"))
    validate(config)
    assert "19000" in config.read_text()


def test_a_wrong_configuration_would_be_noticed(build: Any, tmp_path: Path) -> None:
    config = tmp_path / "envoy.json"
    wrong = static(build(TESTDATA / "demo.yaml").resources)
    del wrong["static_resources"]["clusters"][0]
    config.write_text(json.dumps(wrong))
    with pytest.raises(AssertionError, match="unknown weighted cluster"):
        validate(config)
