"""Owns the ext_proc service: the gRPC servicer and how it starts. Refuses to look into messages: see `stream.py`."""

from __future__ import annotations

import argparse
import collections
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as pb_grpc

from ext_proc.answering import SYSTEM_FRESHNESS
from ext_proc.record import Record
from ext_proc.stream import ProcessingStream
from ext_proc.wire import read_message, write_reply
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.source import OnReload, PolicySource
from paymesh.server.policy_service import run_policy_service
from paymesh.server.service import ServiceRuntime
from paymesh.server.trace import parse_traceparent, set_trace


class ExternalProcessor(pb_grpc.ExternalProcessorServicer):  # type: ignore[misc]
    """`envoy.service.ext_proc.v3.ExternalProcessor`: one stream an HTTP exchange and filter."""

    def __init__(self, policy: Callable[[], Policy], record: Record) -> None:
        self._policy = policy
        self._record = record

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
                written = collections.deque(one for reply in stream.process(heard) for one in write_reply(reply))
                # A reply may wait long for the connection: many large bodies at once are not to be kept several times.
                del message, heard
                while written:
                    yield written.popleft()
        finally:
            stream.close()


@contextlib.asynccontextmanager
async def _serving(
    runtime: ServiceRuntime, source: PolicySource, _: argparse.Namespace
) -> AsyncIterator[OnReload | None]:
    servicer = ExternalProcessor(lambda: source.current, Record(runtime.metrics))
    pb_grpc.add_ExternalProcessorServicer_to_server(servicer, runtime.server)
    yield None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Exit code 2: a bad policy or a taken port."""
    return run_policy_service(
        "ext_proc", "Sanitises request bodies and observes responses.", "127.0.0.1:9002", _serving, arguments
    )
