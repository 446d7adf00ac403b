"""In front of one application: the same routes, all of them to it; what would route is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2

from control_plane.resources.names import ENDPOINT_TYPE
from control_plane.settings import GatewaySettings
from control_plane.sidecar import UnsuitablePolicy, sidecar_policy
from control_plane.xds.generation import Generation
from control_plane.xds.nodes import SIDECAR, Node
from control_plane.xds.snapshot import Snapshot, build_snapshot
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy

SETTINGS = GatewaySettings(("127.0.0.1", 1), (("127.0.0.1", 2),), (("127.0.0.1", 3),), "/dev/null")
PLAIN = """
services: [{name: a, versions: [{name: v1, endpoints: [{address: 10.0.0.1, port: 80}]}]},
           {name: b, versions: [{name: v1, dns: {hostname: b.internal, port: 80}}]}]
routes:
  - {name: a, match: {prefix: /a/}, operation: other, service: a}
  - {name: b, match: {prefix: /b/}, operation: other, service: b}
"""
SPLIT = PLAIN.replace(
    "{name: v1, dns: {hostname: b.internal, port: 80}}",
    "{name: v1, weight: 50, dns: {hostname: b, port: 80}}, {name: v2, weight: 50, dns: {hostname: c, port: 80}}",
)


def policy(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    return load_policy([file], {})


def test_every_service_is_the_application(tmp_path: Path) -> None:
    found, weights = sidecar_policy(policy(tmp_path, PLAIN), "127.0.0.1:8000")
    snapshot = build_snapshot(found, weights, SETTINGS)
    for data in snapshot.resources[ENDPOINT_TYPE].values():
        (locality,) = endpoint_pb2.ClusterLoadAssignment.FromString(data).endpoints
        (host,) = [one.endpoint.address.socket_address for one in locality.lb_endpoints]
        assert (host.address, host.port_value) == ("127.0.0.1", 8000)
    assert [route.name for route in found.routes] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "application", "message"),
    [
        (SPLIT, "127.0.0.1:8000", "service b is split between versions"),
        (PLAIN, "localhost:8000", "paymesh.application is IP:PORT, not 'localhost:8000'"),
        (PLAIN, "", "paymesh.application is IP:PORT, not ''"),
    ],
)
def test_what_would_route_is_refused(tmp_path: Path, text: str, application: str, message: str) -> None:
    with pytest.raises(UnsuitablePolicy, match=message):
        sidecar_policy(policy(tmp_path, text), application)


def test_a_node_is_told_why_there_is_nothing_for_it(tmp_path: Path) -> None:
    split = policy(tmp_path, SPLIT)

    def build(node: Node) -> Snapshot:
        return build_snapshot(*sidecar_policy(split, node.application), SETTINGS)

    plain = build_snapshot(*sidecar_policy(policy(tmp_path, PLAIN), "127.0.0.1:1"), SETTINGS)
    generation = Generation(split, plain, frozenset(), build)
    sidecar, gateway = Node("s", kind=SIDECAR, application="127.0.0.1:8000"), Node("g")
    assert generation.snapshot(sidecar) is None
    assert "service b is split between versions" in sidecar.problem
    assert generation.snapshot(gateway) is plain
