"""Owns an xDS client for tests and the benchmark: acknowledges what it is sent, refuses what it is told to refuse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE

OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


@dataclass
class SimulatedNode:
    """One Envoy, state of the world or delta. `refuse`: by type URL and version, what it says no to."""

    address: str
    id: str
    delta: bool = False
    refuse: Callable[[str, str], str | None] = lambda _type, _version: None
    received: dict[str, list[str]] = field(default_factory=dict)
    """Versions by type, in the order in which they came."""
    held: dict[str, set[str]] = field(default_factory=dict)
    """Of delta: names by type."""
    on_received: Callable[[str, str], None] = lambda _type, _version: None
    names: dict[str, set[str]] = field(default_factory=lambda: {ROUTE_TYPE: {"paymesh"}, ENDPOINT_TYPE: set()})
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[SimulatedNode]:
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, look: Callable[[], bool], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not look():
                await asyncio.sleep(0.01)

    def newest(self, type_url: str) -> str:
        return self.received.get(type_url, [""])[-1]

    async def _run(self) -> None:
        async with grpc.aio.insecure_channel(self.address, options=OPTIONS) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            await (self._run_delta(stub) if self.delta else self._run_sotw(stub))

    async def _run_sotw(self, stub: ads_pb2_grpc.AggregatedDiscoveryServiceStub) -> None:
        stream = stub.StreamAggregatedResources()

        async def ask(kind: str, version: str = "", nonce: str = "", error: str | None = None) -> None:
            request = discovery_pb2.DiscoveryRequest(
                type_url=kind, version_info=version, response_nonce=nonce, resource_names=self.names.get(kind, ())
            )
            request.node.id = self.id
            if error is not None:
                request.error_detail.message = error
            await stream.write(request)

        await ask(CLUSTER_TYPE)
        await ask(LISTENER_TYPE)
        accepted: dict[str, str] = {}
        nonces: dict[str, str] = {}
        while (answer := await stream.read()) is not grpc.aio.EOF:
            kind, version = answer.type_url, answer.version_info
            nonces[kind] = answer.nonce
            error = self._receive(kind, version)
            if error is None:
                accepted[kind] = version
            if kind == CLUSTER_TYPE and error is None:
                names = {cluster_pb2.Cluster.FromString(one.value).name for one in answer.resources}
                if names != self.names[ENDPOINT_TYPE]:
                    self.names[ENDPOINT_TYPE] = names
                    await ask(ENDPOINT_TYPE, accepted.get(ENDPOINT_TYPE, ""), nonces.get(ENDPOINT_TYPE, ""))
            if kind == LISTENER_TYPE and ROUTE_TYPE not in self.received:
                await ask(ROUTE_TYPE)
            await ask(kind, accepted.get(kind, ""), answer.nonce, error)

    async def _run_delta(self, stub: ads_pb2_grpc.AggregatedDiscoveryServiceStub) -> None:
        stream = stub.DeltaAggregatedResources()

        async def ask(kind: str, *names: str, nonce: str = "", error: str | None = None) -> None:
            request = discovery_pb2.DeltaDiscoveryRequest(
                type_url=kind, response_nonce=nonce, resource_names_subscribe=names
            )
            request.node.id = self.id
            if error is not None:
                request.error_detail.message = error
            await stream.write(request)

        await ask(CLUSTER_TYPE)
        await ask(LISTENER_TYPE)
        while (answer := await stream.read()) is not grpc.aio.EOF:
            kind = answer.type_url
            held = self.held.setdefault(kind, set())
            names = {one.name for one in answer.resources}
            error = self._receive(kind, answer.system_version_info)
            if error is None:
                held |= names
                held -= set(answer.removed_resources)
            if kind == CLUSTER_TYPE and names - self.names[ENDPOINT_TYPE]:
                new = names - self.names[ENDPOINT_TYPE]
                self.names[ENDPOINT_TYPE] |= new
                await ask(ENDPOINT_TYPE, *sorted(new))
            if kind == LISTENER_TYPE and ROUTE_TYPE not in self.received:
                await ask(ROUTE_TYPE, "paymesh")
            await ask(kind, nonce=answer.nonce, error=error)

    def _receive(self, kind: str, version: str) -> str | None:
        self.connected.set()
        self.received.setdefault(kind, []).append(version)
        self.on_received(kind, version)
        return self.refuse(kind, version)
