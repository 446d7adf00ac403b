"""Owns the ADS service: gRPC streams in, the newest snapshot out. A slow Envoy delays nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import any_pb2

from control_plane.resources.names import TYPES
from control_plane.xds.ads_stream import AdsStream, Answer, Asked, short_type
from control_plane.xds.nodes import Nodes
from control_plane.xds.snapshot import Snapshot

_LOG = logging.getLogger(__name__)
OnResult = Callable[[str, bool], None]
"""Called with a short type name and whether it was acknowledged."""


class SnapshotCache:
    """The snapshot in force, and how streams learn of a new one."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._changed: set[asyncio.Event] = set()

    @property
    def current(self) -> Snapshot:
        return self._snapshot

    def publish(self, snapshot: Snapshot) -> None:
        """Swap one reference; every stream is woken and sends what changed for it."""
        self._snapshot = snapshot
        for event in self._changed:
            event.set()

    @contextlib.contextmanager
    def changes(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever a snapshot was published."""
        event = asyncio.Event()
        self._changed.add(event)
        try:
            yield event
        finally:
            self._changed.discard(event)


class AggregatedDiscovery(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    """`envoy.service.discovery.v3.AggregatedDiscoveryService`, state of the world. Streams end once draining."""

    def __init__(self, cache: SnapshotCache, nodes: Nodes, on_result: OnResult, draining: asyncio.Event) -> None:
        self._cache = cache
        self._nodes = nodes
        self._on_result = on_result
        self._draining = draining

    async def StreamAggregatedResources(  # noqa: N802 - the method's name in the .proto
        self,
        requests: AsyncIterator[discovery_pb2.DiscoveryRequest],
        _: grpc.aio.ServicerContext[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse],
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        stream = AdsStream(self._nodes)
        incoming = aiter(requests)
        asked = asyncio.ensure_future(anext(incoming, None))
        with self._cache.changes() as changed:
            changes = asyncio.ensure_future(changed.wait())
            draining = asyncio.ensure_future(self._draining.wait())
            try:
                while True:
                    await asyncio.wait({asked, changes, draining}, return_when=asyncio.FIRST_COMPLETED)
                    if draining.done():
                        return  # Envoy keeps what it has, and asks again
                    answers: list[Answer] = []
                    if changes.done():
                        # Cleared before the snapshot is read: one published in between wakes us again.
                        changed.clear()
                        changes = asyncio.ensure_future(changed.wait())
                        answers += stream.on_snapshot(self._cache.current)
                    if asked.done():
                        message = asked.result()
                        if message is None:
                            return
                        answers += stream.on_request(self._read(message), self._cache.current)
                        asked = asyncio.ensure_future(anext(incoming, None))
                    for answer in answers:
                        yield _write(answer)
            finally:
                asked.cancel()
                changes.cancel()
                draining.cancel()
                stream.close()

    def _read(self, message: discovery_pb2.DiscoveryRequest) -> Asked:
        refused = message.HasField("error_detail")
        if message.response_nonce and message.type_url in TYPES:
            self._on_result(short_type(message.type_url), not refused)
        if refused:
            fields = {"type": short_type(message.type_url), "message": message.error_detail.message}
            _LOG.error("Envoy refused a configuration", extra={"fields": fields})
        return Asked(
            type_url=message.type_url,
            nonce=message.response_nonce,
            names=tuple(message.resource_names),
            node_id=message.node.id,
            error=message.error_detail.message if refused else None,
        )


def _write(answer: Answer) -> discovery_pb2.DiscoveryResponse:
    return discovery_pb2.DiscoveryResponse(
        version_info=answer.version,
        type_url=answer.type_url,
        nonce=answer.nonce,
        resources=[any_pb2.Any(type_url=answer.type_url, value=value) for value in answer.resources],
    )
