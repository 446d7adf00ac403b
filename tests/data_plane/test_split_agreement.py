"""Our prediction against Envoy's choice: thousands of merchants by weight, each on the version that the preview names.

Envoy's part is the real one: the listener and the weighted routes that the control plane builds. Nobody decides here,
so the client sends `x-pay-split` itself; each version is a listener of the same Envoy that answers with its name.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from envoy.config.route.v3 import route_pb2

from control_plane.resources.names import ROUTE_CONFIGURATION
from control_plane.resources.routes import build_routes
from control_plane.weights import effective_weights
from paymesh.cli.stack.ports import Ports
from paymesh.payments.internal_names import SPLIT_HEADER, version_cluster
from paymesh.payments.percent import format_percent
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.releases.preview import version_of
from paymesh.payments.releases.traffic import TOTAL, Traffic
from paymesh.payments.split import split_value
from tests.binomial import binomial_bounds
from tests.data_plane.static_envoy import HOST, listener_of, running_envoy

pytestmark = pytest.mark.data_plane
VERSIONS = ("v1", "v2", "v3")
SPLITS: Mapping[str, Mapping[str, int]] = {
    "hundredth": {"v1": 9_999, "v2": 1, "v3": 0},
    "one": {"v1": 9_900, "v2": 100, "v3": 0},
    "ten": {"v1": 9_000, "v2": 1_000, "v3": 0},
    "half": {"v1": 5_000, "v2": 5_000, "v3": 0},
    "three": {"v1": 2_500, "v2": 1_000, "v3": 6_500},
    "neighbours": {"v1": 0, "v2": 9_999, "v3": 1},
}
"""By service: as many as a route and a cluster of each version."""
SALT = "s3"
"""One that sends somebody to a weight of 0.01% too: else nothing would be compared there."""
MERCHANTS = 10_000
CONNECTIONS, AT_ONCE = 8, 50
Answers = list[tuple[int, str]]
"""Status and version."""


def policy_text() -> str:
    lines = ["services:"]
    for name, weights in SPLITS.items():
        lines.append(f"  - name: {name}")
        lines.append("    versions:")
        for version, weight in weights.items():
            host = f"{{address: {HOST}, port: 1}}"
            lines.append(f"      - {{name: {version}, weight: '{format_percent(weight)}', endpoints: [{host}]}}")
    routes = [f"  - {{name: {name}, operation: other, service: {name}, match: {{path: /{name}}}}}" for name in SPLITS]
    return "\n".join([*lines, "routes:", *routes, ""])


def weighted_routes(policy: Policy) -> route_pb2.RouteConfiguration:
    splits = {name: Traffic(split) for name, split in effective_weights(policy, {}).items()}
    routes = route_pb2.RouteConfiguration.FromString(build_routes(policy, splits)[ROUTE_CONFIGURATION])
    for route in routes.virtual_hosts[0].routes:
        route.typed_per_filter_config.clear()
    return routes


def answering_routes(version: str) -> route_pb2.RouteConfiguration:
    routes = route_pb2.RouteConfiguration(name=version)
    route = routes.virtual_hosts.add(name=version, domains=["*"]).routes.add()
    route.match.prefix = "/"
    route.direct_response.status = 200
    route.direct_response.body.inline_string = version
    return routes


def cluster(name: str, port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": HOST, "port_value": port}}
    hosts = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": hosts}}


@pytest.fixture(scope="module")
def envoy_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder, ports = tmp_path_factory.mktemp("split"), Ports.random()
    (folder / "policy.yaml").write_text(policy_text())
    policy = load_policy([folder / "policy.yaml"], {})
    of_versions = dict(zip(VERSIONS, (ports.trade_v1, ports.trade_v2, ports.card), strict=True))
    listeners = [
        listener_of(policy, weighted_routes(policy), ports.gateway, keeps_x_pay=True),
        *({**listener_of(policy, answering_routes(one), port), "name": one} for one, port in of_versions.items()),
    ]
    clusters = [
        cluster(version_cluster(service, version), port) for service in SPLITS for version, port in of_versions.items()
    ]
    with running_envoy(folder, ports.gateway, listeners, clusters):
        yield ports.gateway


@pytest.fixture(scope="module")
def split_values() -> list[str]:
    return [split_value(SALT, f"merchant-{number}", "") for number in range(MERCHANTS)]


async def ask(port: int, path: str, split_values: Sequence[str]) -> Answers:
    """One connection; requests go out in bundles, answers come back in their order."""
    reader, writer = await asyncio.open_connection(HOST, port)
    found: Answers = []
    try:
        for begin in range(0, len(split_values), AT_ONCE):
            bundle = split_values[begin : begin + AT_ONCE]
            requests = (f"GET {path} HTTP/1.1\r\nhost: gateway\r\n{SPLIT_HEADER}: {one}\r\n\r\n" for one in bundle)
            writer.write("".join(requests).encode())
            found.extend([await _answer(reader) for _ in bundle])
    finally:
        writer.close()
        await writer.wait_closed()
    return found


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    _, _, length = head.partition("content-length: ")
    body = await reader.readexactly(int(length.split("\r\n")[0]))
    return int(head.split(" ")[1]), body.decode()


@pytest.mark.parametrize("service", SPLITS)
async def test_every_merchant_is_where_the_preview_says(envoy_port: int, split_values: list[str], service: str) -> None:
    weights = SPLITS[service]
    shares = [split_values[number::CONNECTIONS] for number in range(CONNECTIONS)]
    answers = await asyncio.gather(*(ask(envoy_port, f"/{service}", share) for share in shares))
    counted: Counter[str] = Counter()
    for share, answered in zip(shares, answers, strict=True):
        for split, (status, version) in zip(share, answered, strict=True):
            assert (status, version) == (200, version_of(split, weights)), split
            counted[version] += 1
    for version, weight in weights.items():
        low, high = binomial_bounds(MERCHANTS, weight / TOTAL) if weight else (0, 0)
        assert low <= counted[version] <= high, counted
        assert counted[version] or not weight, counted
