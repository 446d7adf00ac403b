"""The control plane as a process, with the real Envoy as its client: published, confirmed, refused, restarted."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
import yaml

from control_plane.admin import admin_pb2, admin_pb2_grpc
from paymesh.cli.main import main
from paymesh.cli.stack.bootstrap import render_bootstrap
from paymesh.cli.stack.ports import Ports
from paymesh.server.envoy_binary import find_envoy

REPOSITORY = Path(__file__).resolve().parents[2]
ALL_TYPES = {"Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"}
PATIENCE_S = 40.0
"""For one CPU that other tests use too; nothing here takes a second by itself."""

T = TypeVar("T")
pytestmark = pytest.mark.data_plane


def eventually(look: Callable[[], T], what: str) -> T:
    """The first true answer of `look`."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Stack:
    """A control plane and Envoys on random ports. Every process that it starts is stopped by `stop`."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.ports = Ports.random()
        self.policy = folder / "policy"
        shutil.copytree(REPOSITORY / "examples" / "demo", self.policy)
        self._environ = {**os.environ, **environ, "PYTHONPATH": str(REPOSITORY)}
        self._started: list[subprocess.Popen[bytes]] = []

    def start_control_plane(self, *more: str) -> None:
        address = self.ports.address
        flags = {
            "--policy": str(self.policy),
            "--listen": address("xds"),
            "--admin-listen": address("admin"),
            "--gateway": address("gateway"),
            "--ext-authz": address("ext_authz"),
            "--ext-proc": address("ext_proc"),
            "--access-log": str(self.folder / "access.log"),
            "--state": str(self.folder / "data"),
        }
        command = [sys.executable, "-m", "control_plane", *(part for flag in flags.items() for part in flag), *more]
        self.control_plane = self._start(command, "control_plane.log")
        eventually(self._answers, "the control plane did not start")

    def start_envoy(
        self,
        node: str = "gateway-1",
        admin: str = "envoy_admin",
        *,
        delta: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """`delta`: it asks for changes only. `metadata`: what it says of itself."""
        file = self.folder / f"{node}.yaml"
        ports = {"admin_port": getattr(self.ports, admin), "xds_port": self.ports.xds}
        document = yaml.safe_load(render_bootstrap(**ports, node_id=node))
        document["node"]["metadata"] = dict(metadata or {})
        if delta:
            document["dynamic_resources"]["ads_config"]["api_type"] = "DELTA_GRPC"
        file.write_text(yaml.safe_dump(document))
        options = ["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]
        return self._start([str(find_envoy()), "-c", str(file), *options], f"{node}.log")

    def _start(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self._environ, stdout=output, stderr=subprocess.STDOUT
            )
        self._started.append(process)
        return process

    def stop(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()

    def log(self) -> str:
        return (self.folder / "control_plane.log").read_text()

    def _answers(self) -> bool:
        assert self.control_plane.poll() is None, self.log()
        try:
            self.status()
        except grpc.RpcError:
            return False
        return True

    def status(self) -> Any:
        with self._admin() as stub:
            return stub.Status(admin_pb2.StatusRequest(), timeout=10)

    def set_weight(self, service: str, reason: str = "a test", **weights: int) -> Any:
        request = admin_pb2.SetWeightRequest(service=service, weights=weights, reason=reason, actor="ann")
        with self._admin() as stub:
            return stub.SetWeight(request, timeout=10)

    @contextlib.contextmanager
    def _admin(self) -> Iterator[Any]:
        """A channel of its own for each call: one that failed once would wait before it connects again."""
        with grpc.insecure_channel(self.ports.address("admin")) as channel:
            yield admin_pb2_grpc.AdminStub(channel)

    def types(self, node: str = "gateway-1") -> dict[str, Any]:
        return {item.type: item for found in self.status().nodes if found.id == node for item in found.types}

    def settled(self, node: str = "gateway-1") -> bool:
        """All four types acknowledged as they were sent last."""
        types = self.types(node)
        acked = all(item.acked_version == item.sent_version for item in types.values())
        return types.keys() == ALL_TYPES and acked and not any(v.endswith("+leaving") for v in self.versions().values())

    def versions(self) -> dict[str, str]:
        return {name: item.acked_version for name, item in self.types().items()}

    def weights(self, service: str) -> tuple[dict[str, int], dict[str, int] | None]:
        """Set, and actual (None: the nodes differ)."""
        (found,) = [item for item in self.status().services if item.service == service]
        actual = {v.version: v.actual_weight for v in found.versions if v.HasField("actual_weight")}
        return {v.version: v.set_weight for v in found.versions}, actual or None

    def confirmed(self, service: str) -> bool:
        expected, actual = self.weights(service)
        return expected == actual

    def envoys_routes(self) -> list[dict[str, Any]]:
        """What Envoy itself says that it routes."""
        address = f"http://{self.ports.address('envoy_admin')}/config_dump?resource=dynamic_route_configs"
        with urllib.request.urlopen(address, timeout=10) as answer:
            (item,) = json.load(answer)["configs"]
        return item["route_config"]["virtual_hosts"][0]["routes"]

    def envoys_split(self, route: str) -> dict[str, int]:
        """Weights by cluster; nothing where Envoy has no such route (yet)."""
        found = [item["route"] for item in self.envoys_routes() if item["name"] == route]
        return {c["name"]: c.get("weight", 0) for one in found for c in one["weighted_clusters"]["clusters"]}

    def envoys_clusters(self) -> set[str]:
        """Active ones, not those that still warm."""
        address = f"http://{self.ports.address('envoy_admin')}/clusters?format=json"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return {item["name"] for item in json.load(answer)["cluster_statuses"]}

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a policy file as editors do: written beside it, then renamed."""
        file = self.policy / name
        text = file.read_text()
        assert old in text
        (self.folder / "edited").write_text(text.replace(old, new))
        (self.folder / "edited").replace(file)


@pytest.fixture
def stack(tmp_path: Path, demo_environ: dict[str, str]) -> Iterator[Stack]:
    built = Stack(tmp_path, demo_environ)
    try:
        built.start_control_plane()
        yield built
    finally:
        built.stop()
    assert "Traceback" not in built.log()


@pytest.fixture
def settled(stack: Stack) -> Stack:
    """With one Envoy that has everything."""
    stack.start_envoy()
    eventually(stack.settled, "Envoy did not take the configuration")
    return stack


def test_every_type_is_acknowledged_and_the_weights_are_confirmed(
    settled: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not any(item.nack_message for item in settled.types().values())
    assert settled.weights("trade") == ({"v1": 9000, "v2": 1000}, {"v1": 9000, "v2": 1000})
    assert settled.envoys_split("wechat-query") == {"trade|v1": 9000, "trade|v2": 1000}
    assert main(["status", "--admin", settled.ports.address("admin")]) == 0
    printed = capsys.readouterr().out
    assert "gateway-1            RouteConfiguration" in printed
    assert "trade                v1          90.00%      90.00%" in printed


def test_set_weight_reaches_envoy_and_survives_a_killed_control_plane(
    settled: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["set-weight", "trade", "v1=49.75", "v2=50.25", "--reason", "half", "--wait", "40"]
    assert main([*command, "--admin", settled.ports.address("admin")]) == 0
    assert "v1=90.00% v2=10.00% -> v1=49.75% v2=50.25%\nconfirmed by every node" in capsys.readouterr().out
    assert settled.envoys_split("wechat-query") == {"trade|v1": 4975, "trade|v2": 5025}
    before = settled.versions()

    settled.control_plane.kill()
    settled.control_plane.wait()
    assert settled.envoys_split("wechat-query") == {"trade|v1": 4975, "trade|v2": 5025}, "Envoy keeps what it has"

    settled.start_control_plane()
    assert settled.weights("trade")[0] == {"v1": 4975, "v2": 5025}
    eventually(settled.settled, "Envoy did not come back")
    assert settled.versions() == before, "the same content has the same version in another process"
    assert settled.confirmed("trade")


def test_the_command_line_names_what_is_wrong(settled: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    admin = ["--admin", settled.ports.address("admin")]
    assert main(["set-weight", "nobody", "v1=100", "--reason", "a test", *admin]) == 2
    assert (
        capsys.readouterr().err == "no service nobody (known: alipay, card, ledger, offline, trade, unionpay, wechat)\n"
    )
    assert main(["set-weight", "trade", "v1=99", "--reason", "a test", *admin]) == 2
    assert capsys.readouterr().err == "the weights add up to 99.00 percent, not to 100\n"


def test_an_edited_policy_is_published_and_recorded_weights_stay(settled: Stack) -> None:
    settled.set_weight("trade", v1=8000, v2=2000)
    old = settled.status().policy_version
    # Together: a new cluster, one that changes, and routes that use them.
    (settled.policy / "bills.yaml").write_text(
        "services: [{name: bills, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 9}]}]}]\n"
        "routes: [{name: bills, match: {prefix: /bills/}, operation: other, service: bills}]\n"
    )
    settled.edit("channels.yaml", "  - name: trade\n", "  - name: trade\n    connect_timeout: 700ms\n")
    eventually(lambda: settled.status().policy_version != old and settled.settled(), "not published")
    eventually(lambda: settled.envoys_split("bills") == {"bills|v1": 10_000}, "Envoy has no new route")
    assert {"bills|v1", "trade|v1"} <= settled.envoys_clusters()
    assert settled.envoys_split("wechat-query") == {"trade|v1": 8000, "trade|v2": 2000}

    (settled.policy / "bills.yaml").unlink()
    eventually(lambda: "bills|v1" not in settled.envoys_clusters() and settled.settled(), "the cluster stayed")
    assert "bills" not in [item["name"] for item in settled.envoys_routes()]


def test_a_bad_edit_is_refused_and_shown_while_the_old_policy_stays(settled: Stack) -> None:
    before, old = settled.versions(), settled.status().policy_version
    settled.edit("channels.yaml", "weight: 90", "weight: 91")
    problems = eventually(lambda: list(settled.status().policy_problems), "no problem shown")
    assert len(problems) == 1
    assert "channels.yaml" in problems[0]
    assert "the weights add up to 101 percent, not to 100" in problems[0]
    assert settled.status().policy_version == old
    assert settled.versions() == before

    settled.edit("channels.yaml", "weight: 91", "weight: 90")
    eventually(lambda: not settled.status().policy_problems, "the problem stayed")
    assert settled.status().policy_version == old


def test_a_policy_that_drops_a_version_with_traffic_is_refused(settled: Stack) -> None:
    settled.set_weight("trade", v1=5000, v2=5000)
    eventually(lambda: settled.confirmed("trade"), "not confirmed")
    text = (settled.policy / "channels.yaml").read_text()
    start, end = text.index("      - name: v2"), text.index("  - name: card\n    versions")
    (settled.policy / "channels.yaml").write_text((text[:start] + text[end:]).replace("weight: 90", "weight: 100"))
    (problem,) = eventually(lambda: list(settled.status().policy_problems), "no problem shown")
    assert "service trade: version v2 (50.00%) has traffic by set-weight" in problem
    assert settled.envoys_split("wechat-query") == {"trade|v1": 5000, "trade|v2": 5000}
    assert settled.weights("trade")[0] == {"v1": 5000, "v2": 5000}


def test_a_refusal_is_shown_in_envoys_words(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stack.ports.gateway))
        taken.listen()
        stack.start_envoy()
        listener = eventually(
            lambda: next((item for item in stack.types().values() if item.nack_message), None), "no refusal"
        )
        assert listener.type == "Listener"
        assert listener.nacked_version == listener.sent_version
        assert listener.acked_version == ""
        assert "cannot bind" in listener.nack_message
        clusters = stack.types()["Cluster"]
        assert clusters.acked_version == clusters.sent_version
        assert stack.weights("trade")[1] is None, "nothing is confirmed by a node without routes"
        assert main(["status", "--admin", stack.ports.address("admin")]) == 0
        assert "cannot bind" in capsys.readouterr().out
        # Log lines are written some time after they are said.
        eventually(lambda: "Envoy refused a configuration" in stack.log(), "not in the log")


def test_weights_are_actual_only_when_every_node_has_them(settled: Stack) -> None:
    other = settled.start_envoy("gateway-2", admin="ext_authz_metrics")
    eventually(lambda: settled.settled("gateway-2"), "the second Envoy did not come")
    assert settled.confirmed("trade")
    other.send_signal(signal.SIGSTOP)
    settled.set_weight("trade", v1=0, v2=10_000)
    eventually(lambda: settled.settled("gateway-1"), "a hanging Envoy delays another")
    assert settled.weights("trade") == ({"v1": 0, "v2": 10_000}, None)
    other.send_signal(signal.SIGCONT)
    eventually(lambda: settled.confirmed("trade"), "never confirmed")

    other.kill()
    eventually(lambda: [node.id for node in settled.status().nodes] == ["gateway-1"], "a dead node is remembered")
    assert settled.confirmed("trade")


def test_sigterm_ends_it_though_envoy_is_connected(settled: Stack) -> None:
    settled.control_plane.send_signal(signal.SIGTERM)
    assert settled.control_plane.wait(timeout=PATIENCE_S) == 0
    assert settled.envoys_split("wechat-query"), "Envoy keeps what it has"
