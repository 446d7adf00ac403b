"""What a bad configuration does to real Envoys: nothing. And what an Envoy is told over the incremental protocol."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.xds.test_real_envoy import Stack, eventually

pytestmark = pytest.mark.data_plane

BILLS = """
services:
  - name: bills
    {more}
    versions: [{{name: v1, {hosts}}}]
routes: [{{name: bills, match: {{prefix: /bills/}}, operation: other, service: bills}}]
"""
HOSTS = "endpoints: [{address: 127.0.0.1, port: 9}]"


@pytest.fixture
def stack(tmp_path: Path, demo_environ: dict[str, str]) -> Iterator[Stack]:
    built = Stack(tmp_path, demo_environ)
    try:
        built.start_control_plane()
        yield built
    finally:
        built.stop()
    assert "Traceback" not in built.log()


def test_envoy_follows_over_the_incremental_protocol(stack: Stack) -> None:
    stack.start_envoy(delta=True)
    eventually(stack.settled, "Envoy did not take the configuration")
    (node,) = stack.status().nodes
    assert node.delta
    stack.set_weight("trade", v1=5000, v2=5000)
    eventually(lambda: stack.confirmed("trade"), "not confirmed")
    assert stack.envoys_split("wechat-query") == {"trade|v1": 5000, "trade|v2": 5000}
    (stack.policy / "bills.yaml").write_text(BILLS.format(more="", hosts=HOSTS))
    eventually(lambda: stack.envoys_split("bills") == {"bills|v1": 10_000}, "Envoy has no new route")
    (stack.policy / "bills.yaml").unlink()
    eventually(lambda: "bills|v1" not in stack.envoys_clusters() and stack.settled(), "the cluster stayed")

    stack.control_plane.kill()
    stack.control_plane.wait()
    stack.start_control_plane()
    eventually(lambda: stack.status().nodes, "Envoy did not come back")
    # It told what it has: nothing is sent again, so nothing was acknowledged either.
    time.sleep(1)
    assert {name: item.sent_version for name, item in stack.types().items() if item.sent_version} == {}
    stack.set_weight("trade", v1=4000, v2=6000)
    eventually(lambda: stack.envoys_split("wechat-query") == {"trade|v1": 4000, "trade|v2": 6000}, "no longer followed")


def test_what_every_envoy_refuses_is_taken_back_and_shown(stack: Stack) -> None:
    """A certificate that is not there: only the Envoys themselves can know."""
    stack.start_envoy()
    eventually(stack.settled, "Envoy did not take the configuration")
    old = stack.status().policy_version
    ca_file = stack.folder / "ca.pem"
    tls = f"tls: {{ca_file: {ca_file}, subject_alt_names: [bills.internal]}}"
    (stack.policy / "bills.yaml").write_text(BILLS.format(more=tls, hosts=HOSTS))
    said = eventually(lambda: stack.status().rolled_back, "not rolled back")
    assert "1 of 1 nodes refused it; gateway-1, Secret" in said
    assert "ca.pem" in said
    assert stack.status().policy_version == old
    eventually(lambda: "bills|v1" not in stack.envoys_clusters(), "the new cluster stayed")
    # Weights can still be moved: the way back must never depend on the next policy.
    stack.set_weight("trade", v1=10_000, v2=0)
    eventually(lambda: stack.envoys_split("wechat-query") == {"trade|v1": 10_000, "trade|v2": 0}, "no way back")
    assert stack.status().rolled_back, "still not the policy that was published"

    (stack.policy / "bills.yaml").write_text(BILLS.format(more="", hosts=HOSTS))
    eventually(lambda: stack.envoys_split("bills") == {"bills|v1": 10_000}, "the mended policy did not arrive")
    assert not stack.status().rolled_back


def test_what_envoy_would_refuse_is_not_published(stack: Stack) -> None:
    stack.start_envoy()
    eventually(stack.settled, "Envoy did not take the configuration")
    before, versions = stack.status().policy_version, stack.versions()
    # Python's ipaddress takes a scope with any address, Envoy does not.
    bad = BILLS.format(more="", hosts='endpoints: [{address: "::1%lo", port: 1}]')
    (stack.policy / "bills.yaml").write_text(bad)
    (problem,) = eventually(lambda: list(stack.status().policy_problems), "not refused")
    assert "envoy --mode validate" in problem
    assert "malformed IP address: ::1%lo" in problem
    assert stack.status().policy_version == before
    assert stack.versions() == versions


def test_hosts_from_a_file_are_followed_and_never_lost(stack: Stack) -> None:
    stack.start_envoy()
    eventually(stack.settled, "Envoy did not take the configuration")
    hosts = stack.policy / "bills.hosts"
    (stack.policy / "bills.yaml").write_text(BILLS.format(more="", hosts="endpoints_file: bills.hosts"))
    eventually(lambda: "bills|v1" in stack.status().discovery_problems, "a missing file is not shown")
    hosts.write_text(json.dumps([{"address": "127.0.0.1", "port": 7}, {"address": "127.0.0.2", "port": 7}]))
    eventually(lambda: envoys_hosts(stack) == {"127.0.0.1:7", "127.0.0.2:7"}, "not taken over")
    assert not stack.status().discovery_problems
    for bad in ("[]", "- {address: nowhere, port: 1}", "- {address: 127.0.0.1", "- {address: 127.0.0.3, port: 70000}"):
        hosts.write_text(bad)
        eventually(lambda: "bills|v1" in stack.status().discovery_problems, "a bad file is not shown")
        assert envoys_hosts(stack) == {"127.0.0.1:7", "127.0.0.2:7"}
    hosts.unlink()

    # A control plane that starts while the registry is away goes on with what was good.
    eventually(lambda: (stack.folder / "data" / "last_good.snapshot").exists(), "not saved")
    stack.control_plane.kill()
    stack.control_plane.wait()
    stack.start_control_plane()
    eventually(stack.settled, "Envoy did not come back")
    assert envoys_hosts(stack) == {"127.0.0.1:7", "127.0.0.2:7"}
    hosts.write_text("- {address: 127.0.0.3, port: 7, weight: 2, zone: a}")
    eventually(lambda: envoys_hosts(stack) == {"127.0.0.3:7"}, "not followed after the restart")


def envoys_hosts(stack: Stack) -> set[str]:
    address = f"http://{stack.ports.address('envoy_admin')}/clusters?format=json"
    with urllib.request.urlopen(address, timeout=10) as answer:
        found = json.load(answer)["cluster_statuses"]
    hosts = [host for item in found if item["name"] == "bills|v1" for host in item.get("host_statuses", [])]
    sockets = [host["address"]["socket_address"] for host in hosts]
    return {f"{one['address']}:{one['port_value']}" for one in sockets}


def test_an_envoy_in_front_of_one_application_runs_the_same_checks_or_is_told_why_not(stack: Stack) -> None:
    sidecar = {"paymesh.kind": "sidecar", "paymesh.application": "127.0.0.1:9"}
    stack.start_envoy("sidecar-1", metadata=sidecar)
    (node,) = eventually(lambda: list(stack.status().nodes), "it did not come")
    assert node.kind == "sidecar"
    eventually(lambda: "selects a channel" in stack.status().nodes[0].problem, "not told")
    assert stack.types("sidecar-1") == {}

    for file in stack.policy.glob("*.yaml"):
        file.unlink()
    (stack.policy / "plain.yaml").write_text(BILLS.format(more="", hosts=HOSTS))
    eventually(lambda: "bills|v1" not in str(stack.status().nodes[0].problem) and stack.settled("sidecar-1"), "nothing")
    assert "bills|application" in stack.envoys_clusters()
    assert not stack.status().nodes[0].problem


def test_a_control_plane_that_starts_with_a_broken_policy_goes_on_with_the_last_good_one(stack: Stack) -> None:
    stack.start_envoy()
    eventually(stack.settled, "Envoy did not take the configuration")
    before, version = stack.versions(), stack.status().policy_version
    stack.control_plane.kill()
    stack.control_plane.wait()
    good = (stack.policy / "channels.yaml").read_text()
    (stack.policy / "channels.yaml").write_text("channels: [{nmae: x}]\n")
    stack.start_control_plane()
    status = stack.status()
    assert any("unknown key" in problem for problem in status.policy_problems)
    stack.start_envoy("gateway-2", admin="ext_authz_metrics")  # one that has nothing yet
    eventually(lambda: stack.settled("gateway-2"), "a new Envoy got nothing")
    eventually(stack.settled, "Envoy did not come back")
    assert stack.versions() == before
    stack.set_weight("trade", v1=10_000, v2=0)
    eventually(lambda: stack.envoys_split("wechat-query") == {"trade|v1": 10_000, "trade|v2": 0}, "weights are stuck")
    (stack.policy / "channels.yaml").write_text(good)
    eventually(lambda: not stack.status().policy_problems, "the mended policy is not seen")
    assert stack.status().policy_version == version
