"""Owns the ADS service: gRPC streams in, what the fleet gives each node out. A slow Envoy delays nobody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from control_plane.resources.names import TYPES
from control_plane.xds import wire
from control_plane.xds.ads_stream import AdsStream, Answer, Asked, Refusal, short_type
from control_plane.xds.delta_stream import DeltaAnswer, DeltaAsked, DeltaStream
from control_plane.xds.fleet import Fleet
from control_plane.xds.generation import Generation
from control_plane.xds.nodes import Node
from control_plane.xds.snapshot import Snapshot

_LOG = logging.getLogger(__name__)
_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
OnResult = Callable[[str, bool], None]
"""Called with a short type name and whether it was acknowledged."""
Context: TypeAlias = grpc.aio.ServicerContext[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse]
OtherStream = Callable[
    [discovery_pb2.DiscoveryRequest, AsyncIterator[discovery_pb2.DiscoveryRequest], Context],
    AsyncIterator[discovery_pb2.DiscoveryResponse],
]
"""What serves a type of our own: the first request, the rest of them, and whom they come from."""

MessageT = TypeVar("MessageT")
AskedT = TypeVar("AskedT", bound=Asked | DeltaAsked)
AnswerT = TypeVar("AnswerT", bound=Answer | DeltaAnswer)
AskedT_contra = TypeVar("AskedT_contra", contravariant=True)
AnswerT_co = TypeVar("AnswerT_co", covariant=True)


class Stream(Protocol[AskedT_contra, AnswerT_co]):
    """One stream's state, whichever of the two protocols it speaks."""

    def take(self, asked: AskedT_contra) -> Refusal | None: ...

    def answers(self, snapshot: Snapshot) -> Sequence[AnswerT_co]: ...

    def settled(self, snapshot: Snapshot) -> bool: ...


class AggregatedDiscovery:
    """`envoy.service.discovery.v3.AggregatedDiscoveryService`, state of the world and delta.

    Streams end once draining. `others`: types of our own by URL, each on streams of its own.
    """

    def __init__(
        self,
        fleet: Fleet,
        on_result: OnResult,
        draining: asyncio.Event,
        others: Mapping[str, OtherStream] | None = None,
    ) -> None:
        self._fleet = fleet
        self._on_result = on_result
        self._draining = draining
        self._others = others or {}

    def handlers(self) -> grpc.GenericRpcHandler:
        """For the server. Answers are serialised here: what many streams get is serialised once."""
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(
                    self._state_of_the_world, discovery_pb2.DiscoveryRequest.FromString
                ),
                "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(
                    self._delta, discovery_pb2.DeltaDiscoveryRequest.FromString
                ),
            },
        )

    async def _state_of_the_world(
        self, requests: AsyncIterator[discovery_pb2.DiscoveryRequest], context: Context
    ) -> AsyncIterator[bytes]:
        first = await anext(aiter(requests), None)
        if first is None:
            return
        other = self._others.get(first.type_url)
        if other is not None:
            async for answer in other(first, requests, context):
                yield answer.SerializeToString()
            return
        node = wire.read_node(first)
        exchange = _Exchange(AdsStream(node), node, self._fleet, wire.read_asked, wire.write_answer, self._on_result)
        async for data in exchange.run(first, requests, self._draining):
            yield data

    async def _delta(
        self, requests: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest], _: Context
    ) -> AsyncIterator[bytes]:
        first = await anext(aiter(requests), None)
        if first is None:
            return
        node = wire.read_node(first)
        node.delta = True
        exchange = _Exchange(
            DeltaStream(node),
            node,
            self._fleet,
            wire.read_delta_asked,
            lambda answer, _snapshot: wire.write_delta_answer(answer),
            self._on_result,
        )
        async for data in exchange.run(first, requests, self._draining):
            yield data


class _Exchange(Generic[MessageT, AskedT, AnswerT]):
    """One stream with its transport."""

    def __init__(
        self,
        stream: Stream[AskedT, AnswerT],
        node: Node,
        fleet: Fleet,
        read: Callable[[MessageT], AskedT],
        write: Callable[[AnswerT, Snapshot], bytes],
        on_result: OnResult,
    ) -> None:
        self._stream = stream
        self._node = node
        self._fleet = fleet
        self._read = read
        self._write = write
        self._on_result = on_result
        self._given: dict[str, Generation] = {}
        """By type: what the last answer belonged to."""

    async def run(
        self, first: MessageT, requests: AsyncIterator[MessageT], draining: asyncio.Event
    ) -> AsyncIterator[bytes]:
        with self._fleet.connected(self._node) as wake:
            self._take(first)
            incoming = aiter(requests)
            asked: asyncio.Future[MessageT | None] = asyncio.ensure_future(anext(incoming, None))
            woken = asyncio.ensure_future(wake.wait())
            drained = asyncio.ensure_future(draining.wait())
            try:
                while True:
                    for data in self._answers():
                        # Waits while Envoy does not read; what is published meanwhile is looked at afterwards.
                        yield data
                    waited_for: set[asyncio.Future[Any]] = {asked, woken, drained}
                    await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
                    if drained.done():
                        return  # Envoy keeps what it has, and asks again
                    if woken.done():
                        # Cleared before the fleet is asked: what is published in between wakes us again.
                        wake.clear()
                        woken = asyncio.ensure_future(wake.wait())
                    if asked.done():
                        message = asked.result()
                        if message is None:
                            return
                        self._take(message)
                        asked = asyncio.ensure_future(anext(incoming, None))
            finally:
                for task in (asked, woken, drained):
                    task.cancel()

    def _take(self, message: MessageT) -> None:
        asked = self._read(message)
        refusal = self._stream.take(asked)
        if asked.nonce and asked.type_url in TYPES:
            self._on_result(short_type(asked.type_url), asked.error is None)
        if refusal is not None:
            fields = {"node": self._node.id, "type": short_type(refusal.type_url), "message": refusal.message}
            _LOG.error("Envoy refused a configuration", extra={"fields": fields})
            self._fleet.refused(self._node, self._given[refusal.type_url], refusal)

    def _answers(self) -> list[bytes]:
        generation = self._fleet.generation(self._node)
        snapshot = generation.snapshot(self._node)
        if snapshot is None:
            return []
        answers = self._stream.answers(snapshot)
        for answer in answers:
            self._given[answer.type_url] = generation
        if not answers and self._stream.settled(snapshot):
            self._fleet.settled(self._node, generation)
        return [self._write(answer, snapshot) for answer in answers]
