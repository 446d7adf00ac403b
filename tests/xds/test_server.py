"""The xDS server and its clients: many nodes, one that refuses, one that does not read, and gRPC's own client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, SECRET_TYPE, TYPES
from control_plane.xds.fleet import Fleet, RolledBack
from control_plane.xds.generation import Generation
from control_plane.xds.server import AggregatedDiscovery
from control_plane.xds.snapshot import Snapshot, hash_of
from tests.xds.simulated_node import OPTIONS, SimulatedNode

pytestmark = pytest.mark.asyncio
each_protocol = pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])


def snapshot(weights: tuple[int, int] = (10_000, 0), ports: tuple[int, int] = (1, 2), padding: int = 0) -> Snapshot:
    """Two clusters for gRPC clients, which are Envoys to us: the route's weights and the endpoints' ports."""
    clusters, endpoints = {}, {}
    for name, port in zip(("one", "two"), ports, strict=True):
        cluster = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS)
        cluster.eds_cluster_config.eds_config.ads.SetInParent()
        cluster.eds_cluster_config.eds_config.resource_api_version = 2
        clusters[name] = cluster.SerializeToString()
        assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
        locality = assignment.endpoints.add()
        locality.load_balancing_weight.value = 1
        locality.locality.zone = "z"
        address = locality.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", port
        endpoints[name] = assignment.SerializeToString()
    routes = route_pb2.RouteConfiguration(name="paymesh")
    host = routes.virtual_hosts.add(name="all", domains=["*"])
    action = host.routes.add(name="x" * padding)
    action.match.prefix = ""
    for name, weight in zip(("one", "two"), weights, strict=True):
        action.route.weighted_clusters.clusters.add(name=name).weight.value = weight
    manager = http_connection_manager_pb2.HttpConnectionManager()
    manager.rds.route_config_name = "paymesh"
    manager.rds.config_source.ads.SetInParent()
    manager.rds.config_source.resource_api_version = 2
    manager.http_filters.add(name="router").typed_config.Pack(router_pb2.Router())
    listener = listener_pb2.Listener(name="backend", api_listener=api_listener_pb2.ApiListener())
    listener.api_listener.api_listener.Pack(manager)
    resources = {
        CLUSTER_TYPE: clusters,
        SECRET_TYPE: {},
        ENDPOINT_TYPE: endpoints,
        LISTENER_TYPE: {"backend": listener.SerializeToString()},
        ROUTE_TYPE: {"paymesh": routes.SerializeToString()},
    }
    versions = {kind: hash_of(repr(sorted(resources[kind].items())).encode()) for kind in TYPES}
    return Snapshot(resources, versions, {"backend": dict(zip(("one", "two"), weights, strict=True))})


def generation(found: Snapshot) -> Generation:
    return Generation(None, found, frozenset(), lambda _: found)


class Rig:
    def __init__(self, fleet: Fleet, address: str, rolled_back: list[RolledBack], confirmed: list[Snapshot]) -> None:
        self.fleet, self.address, self.rolled_back, self.confirmed = fleet, address, rolled_back, confirmed

    async def good(self, found: Snapshot) -> None:
        """Until most nodes have it."""
        async with asyncio.timeout(20):
            while not self.confirmed or self.confirmed[-1] is not found:
                await asyncio.sleep(0.02)

    def publish(self, found: Snapshot) -> Snapshot:
        self.fleet.publish(generation(found))
        return found


@contextlib.asynccontextmanager
async def serving(first: Snapshot) -> AsyncIterator[Rig]:
    rolled_back: list[RolledBack] = []
    confirmed: list[Snapshot] = []
    fleet = Fleet(
        generation(first), lambda why, _to: rolled_back.append(why), lambda good: confirmed.append(good.common)
    )
    draining = asyncio.Event()
    server = grpc.aio.server()
    xds = AggregatedDiscovery(fleet, lambda _type, _ok: None, draining)
    server.add_generic_rpc_handlers((xds.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ticking = asyncio.create_task(_tick(fleet))
    try:
        yield Rig(fleet, f"127.0.0.1:{port}", rolled_back, confirmed)
    finally:
        ticking.cancel()
        draining.set()
        await server.stop(1)


async def _tick(fleet: Fleet) -> None:
    while True:
        await asyncio.sleep(0.1)
        fleet.tick()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with serving(snapshot()) as found:
        yield found


def refuses(versions: set[str], message: str = "no such thing") -> Callable[[str, str], str | None]:
    return lambda _type, version: message if version in versions else None


@each_protocol
async def test_a_refusal_on_one_node_holds_that_node_while_the_others_go_on(rig: Rig, delta: bool) -> None:
    bad: set[str] = set()
    picky = SimulatedNode(rig.address, "picky", delta, refuses(bad))
    others = [SimulatedNode(rig.address, f"node-{number}", delta) for number in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(picky.running())
        await picky.until(lambda: ROUTE_TYPE in picky.received)
        for node in others:
            await stack.enter_async_context(node.running())
            await node.until(lambda node=node: ROUTE_TYPE in node.received)
        old = rig.fleet.newest.common.versions[ROUTE_TYPE]
        new = snapshot((9000, 1000), ports=(1, 3))
        bad.add(new.versions[ROUTE_TYPE])
        rig.publish(new)
        for node in others:
            await node.until(lambda node=node: node.newest(ROUTE_TYPE) == new.versions[ROUTE_TYPE])
        # Its endpoints, which it had accepted, go back too: a whole snapshot is good, not a mixture.
        before = rig.fleet.newest.common.versions[ENDPOINT_TYPE]
        await picky.until(lambda: picky.newest(ENDPOINT_TYPE) not in ("", before))
        assert picky.received[ROUTE_TYPE][-2:] == [new.versions[ROUTE_TYPE], old]
        (held,) = [node for node in rig.fleet.nodes if rig.fleet.held(node)]
        assert held.id == "picky"
        assert rig.rolled_back == []


@each_protocol
async def test_what_most_nodes_refuse_is_taken_back_everywhere(rig: Rig, delta: bool) -> None:
    bad: set[str] = set()
    nodes = [SimulatedNode(rig.address, f"node-{number}", delta, refuses(bad)) for number in range(5)]
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.running())
        for node in nodes:
            await node.until(lambda node=node: ROUTE_TYPE in node.received)
        old = rig.fleet.newest.common.versions[ROUTE_TYPE]
        new = snapshot((1, 9999))
        bad.add(new.versions[ROUTE_TYPE])
        rig.publish(new)
        await nodes[0].until(lambda: bool(rig.rolled_back))
        for node in nodes:
            await node.until(lambda node=node: node.newest(ROUTE_TYPE) == old)
        asked = [node for node in nodes if new.versions[ROUTE_TYPE] in node.received[ROUTE_TYPE]]
        assert len(asked) == 2, "two refusals are enough: the other three never saw it"
        assert "no such thing" in str(rig.rolled_back[0])


@each_protocol
async def test_two_hundred_changes_end_in_the_right_state_and_nothing_stale_is_sent(rig: Rig, delta: bool) -> None:
    published: list[str] = []
    nodes = [SimulatedNode(rig.address, f"node-{number}", delta) for number in range(10)]
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.running())
        for node in nodes:
            await node.until(lambda node=node: ROUTE_TYPE in node.received)
        for number in range(200):
            new = rig.publish(snapshot((10_000 - number, number), ports=(1 + number % 7, 2)))
            published.append(new.versions[ROUTE_TYPE])
            await asyncio.sleep(0.025)
        for node in nodes:
            await node.until(lambda node=node: node.newest(ROUTE_TYPE) == published[-1])
        await asyncio.sleep(0.3)
        for node in nodes:
            got = [published.index(version) for version in node.received[ROUTE_TYPE][1:]]
            assert got == sorted(set(got)), "each once, in order, none again"
            assert len(got) > 20


async def test_a_node_that_does_not_read_delays_nobody_and_gets_the_newest(rig: Rig) -> None:
    reading = SimulatedNode(rig.address, "reading")
    async with reading.running(), grpc.aio.insecure_channel(rig.address, options=OPTIONS) as channel:
        await reading.until(lambda: ROUTE_TYPE in reading.received)
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        stream = stub.StreamAggregatedResources()
        request = discovery_pb2.DiscoveryRequest(type_url=ROUTE_TYPE, resource_names=["paymesh"])
        request.node.id = "not reading"
        await stream.write(request)
        await reading.until(lambda: len(rig.fleet.nodes) == 2)
        for number in range(1, 60):
            new = rig.publish(snapshot((10_000 - number, number), padding=1_000_000))
            await reading.until(lambda new=new: reading.newest(ROUTE_TYPE) == new.versions[ROUTE_TYPE], 5)
        first = await stream.read()
        request = discovery_pb2.DiscoveryRequest(
            type_url=ROUTE_TYPE, resource_names=["paymesh"], response_nonce=first.nonce
        )
        await stream.write(request)
        second = await stream.read()
        assert second.version_info == new.versions[ROUTE_TYPE], "not one of the fifty between"
        stream.cancel()
        await reading.until(lambda: len(rig.fleet.nodes) == 1)


async def test_what_many_nodes_get_alike_is_encoded_once(rig: Rig) -> None:
    nodes = [SimulatedNode(rig.address, f"node-{number}") for number in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.running())
        for node in nodes:
            await node.until(lambda node=node: ROUTE_TYPE in node.received and ENDPOINT_TYPE in node.received)
        common = rig.fleet.newest.common
        seen: list[str] = []
        common.encoded(ROUTE_TYPE, frozenset({"paymesh"}), lambda: seen.append("again") or b"")  # type: ignore[func-returns-value]
        assert seen == []


async def test_a_type_of_another_is_handed_over_with_its_first_request() -> None:
    taken: list[str] = []

    async def other(
        first: discovery_pb2.DiscoveryRequest, rest: AsyncIterator[discovery_pb2.DiscoveryRequest], _context: object
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        taken.append(first.type_url)
        yield discovery_pb2.DiscoveryResponse(version_info="1", type_url=first.type_url)
        async for more in rest:
            taken.append(more.type_url)

    draining = asyncio.Event()
    server = grpc.aio.server()
    fleet = Fleet(generation(snapshot()))
    xds = AggregatedDiscovery(fleet, lambda _type, _ok: None, draining, {"example.com/Own": other})
    server.add_generic_rpc_handlers((xds.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources()
        await stream.write(discovery_pb2.DiscoveryRequest(type_url="example.com/Own"))
        assert (await stream.read()).version_info == "1"
        await stream.write(discovery_pb2.DiscoveryRequest(type_url="example.com/Own"))
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
    assert taken == ["example.com/Own"] * 2
    assert len(fleet.nodes) == 0
    await server.stop(None)


# -- gRPC's own xDS client: another reader of the protocol ----------------------------------------------------------

CLIENT = """
import os, sys, time, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
channel = grpc.insecure_channel("xds:///backend")
stub = health_pb2_grpc.HealthStub(channel)
for line in sys.stdin:
    try:
        stub.Check(health_pb2.HealthCheckRequest(service=line.strip()), timeout=20, wait_for_ready=True)
        print("found", flush=True)
    except grpc.RpcError as error:
        print(error.code().name, flush=True)
"""


class GrpcClient:
    """A process of its own: gRPC reads its bootstrap once."""

    def __init__(self, address: str) -> None:
        bootstrap = {
            "xds_servers": [{"server_uri": address, "channel_creds": [{"type": "insecure"}]}],
            "node": {"id": "grpc-client"},
        }
        environ = {**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
        # Our services switch gRPC's event engine off; without it this client would read only while it calls.
        environ.pop("GRPC_EXPERIMENTS", None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CLIENT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
        )

    async def calls(self, service: str) -> str:
        return await asyncio.to_thread(self._calls, service)

    def _calls(self, service: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{service}\n".encode())
        self._process.stdin.flush()
        return self._process.stdout.readline().decode().strip()

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.asynccontextmanager
async def backend(name: str) -> AsyncIterator[int]:
    """A gRPC server that knows one service's health."""
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


async def test_grpcs_own_client_follows_weights_and_endpoints_and_refuses_what_envoy_would() -> None:
    async with backend("one") as one, backend("two") as two, serving(snapshot((10_000, 0), (one, two))) as rig:
        client = GrpcClient(rig.address)
        try:
            assert await client.calls("one") == "found"
            assert await client.calls("two") == "NOT_FOUND"
            await rig.good(rig.publish(snapshot((0, 10_000), (one, two))))
            await _eventually(client, "two")
            # Back, to other endpoints under the same name.
            await rig.good(rig.publish(snapshot((10_000, 0), (two, one))))
            assert await client.calls("two") == "found"
            assert await client.calls("one") == "NOT_FOUND"
            # It refuses weights of zero, as Envoy does, says so, and keeps what it has.
            refused = rig.publish(snapshot((0, 0), (two, one)))
            async with asyncio.timeout(20):
                while not rig.rolled_back:
                    await asyncio.sleep(0.05)
            assert rig.fleet.newest.common.versions[ROUTE_TYPE] != refused.versions[ROUTE_TYPE]
            assert await client.calls("two") == "found"
        finally:
            client.stop()


async def _eventually(client: GrpcClient, service: str) -> None:
    async with asyncio.timeout(20):
        while await client.calls(service) != "found":
            await asyncio.sleep(0.05)
