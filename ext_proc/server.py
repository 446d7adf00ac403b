"""Owns the ext_proc service: the gRPC servicer and how it starts. Refuses to look into messages: see `stream.py`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as pb_grpc

from ext_proc.record import Record
from ext_proc.stream import ProcessingStream
from ext_proc.wire import read_message, write_reply
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.policy.source import PolicySource
from paymesh.server.service import ServiceRuntime, add_server_arguments, run_service, server_options
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
        stream = ProcessingStream(self._policy(), self._record)
        try:
            async for message in messages:
                heard = read_message(message)
                if heard.checked is not None:
                    set_trace(parse_traceparent(heard.checked.trace_parent))
                yield write_reply(stream.process(heard))
        finally:
            stream.close()


@contextlib.asynccontextmanager
async def _running(runtime: ServiceRuntime, source: PolicySource) -> AsyncIterator[None]:
    record = Record(runtime.metrics)
    record.count_refused_reloads(lambda: source.failures)
    servicer = ExternalProcessor(lambda: source.current, record)
    pb_grpc.add_ExternalProcessorServicer_to_server(servicer, runtime.server)
    watcher = asyncio.create_task(source.watch())
    try:
        yield
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Exit code 2: a bad policy or a taken port."""
    parser = argparse.ArgumentParser(prog="ext_proc", description="Sanitises request bodies and observes responses.")
    parser.add_argument("--policy", action="append", type=Path, required=True, help="file or folder; may repeat")
    add_server_arguments(parser, default_listen="127.0.0.1:9002")
    args = parser.parse_args(arguments)
    try:
        source = PolicySource(args.policy, os.environ)
    except PolicyErrors as errors:
        print(errors, file=sys.stderr)  # noqa: T201 - logging is not configured yet
        return 2
    return run_service(server_options(args, "ext_proc"), lambda runtime: _running(runtime, source))
