"""Owns the ext_proc service: the gRPC servicer and how it starts. Refuses to look into messages: see `stream.py`."""

from __future__ import annotations

import argparse
import collections
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as pb_grpc

from ext_proc.converting import SYSTEM_FRESHNESS
from ext_proc.ending import Endings
from ext_proc.record import Record
from ext_proc.stream import ProcessingStream
from ext_proc.wire import read_message, tell_ended, write_reply
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.source import OnReload, PolicySource
from paymesh.server.event_log import add_event_arguments, events_of
from paymesh.server.policy_service import run_policy_service
from paymesh.server.service import ServiceRuntime
from paymesh.server.trace import parse_traceparent, set_trace

EVENT_DEADLINE_S = 0.8
"""Below what Envoy waits for an answer that is observed (`OBSERVE_TIMEOUT`, control_plane/resources)."""


class ExternalProcessor(pb_grpc.ExternalProcessorServicer):  # type: ignore[misc]
    """`envoy.service.ext_proc.v3.ExternalProcessor`: one stream an HTTP exchange and filter."""

    def __init__(self, policy: Callable[[], Policy], record: Record, endings: Endings) -> None:
        self._policy = policy
        self._record = record
        self._endings = endings

    async def Process(  # noqa: N802 - the method's name in the .proto
        self,
        messages: AsyncIterator[pb.ProcessingRequest],
        _: grpc.aio.ServicerContext[pb.ProcessingRequest, pb.ProcessingResponse],
    ) -> AsyncIterator[pb.ProcessingResponse]:
        # Returning when Envoy half-closes ends the stream cleanly. Left open, Envoy would reset it, and a server with
        # rapid-reset protection then drops the whole connection (envoy issues 30882, 38346).
        stream = ProcessingStream(self._policy(), self._record, SYSTEM_FRESHNESS)
        try:
            async for message in messages:
                heard = read_message(message)
                if heard.checked is not None:
                    set_trace(parse_traceparent(heard.checked.trace_parent))
                replies = stream.process(heard)
                ended = await self._endings.record(heard.checked, replies)
                written = collections.deque(one for reply in replies for one in write_reply(reply))
                if ended:
                    tell_ended(written[0])
                # A reply may wait long for the connection: many large bodies at once are not to be kept several times.
                del message, heard, replies
                while written:
                    yield written.popleft()
        finally:
            stream.close()


@contextlib.asynccontextmanager
async def _serving(
    runtime: ServiceRuntime, source: PolicySource, args: argparse.Namespace
) -> AsyncIterator[OnReload | None]:
    async with events_of(args, runtime.metrics, EVENT_DEADLINE_S) as events:
        servicer = ExternalProcessor(lambda: source.current, Record(runtime.metrics), Endings(events))
        pb_grpc.add_ExternalProcessorServicer_to_server(servicer, runtime.server)
        yield None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Exit code 2: a bad policy or a taken port."""
    return run_policy_service(
        "ext_proc",
        "Sanitises request bodies, observes responses and records how payments ended.",
        "127.0.0.1:9002",
        _serving,
        arguments,
        add_event_arguments,
    )
