"""The servicer behind a real grpc.aio server: streams end cleanly, and quietly when the client goes away."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import grpc
import pytest
from envoy.extensions.filters.http.ext_proc.v3 import processing_mode_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as pb_grpc

from ext_proc.ending import Endings
from ext_proc.record import Record
from ext_proc.server import ExternalProcessor
from paymesh.payments.policy.compiled import Policy
from paymesh.server.trace import current_trace

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


class Current:
    """A policy that can be swapped, as a reload does."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def __call__(self) -> Policy:
        return self.policy


@pytest.fixture
def current(policy: Policy) -> Current:
    return Current(policy)


@pytest.fixture
async def stub(current: Current, record: Record) -> AsyncIterator[pb_grpc.ExternalProcessorStub]:
    server = grpc.aio.server()
    pb_grpc.add_ExternalProcessorServicer_to_server(ExternalProcessor(current, record, Endings(None)), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield pb_grpc.ExternalProcessorStub(channel)
    await server.stop(0)


def message(body: bytes = b'{"payer":{"phone":"13812341234"}}') -> pb.ProcessingRequest:
    found = pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=True))
    found.metadata_context.filter_metadata["envoy.filters.http.ext_authz"].update(
        {"decision": "allow", "route": "pay", "request_id": "r", "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
        | {"content_type": "application/json"}
    )
    return found


def response_headers() -> pb.ProcessingRequest:
    found = message()
    found.response_headers.headers.headers.add(key=":status", raw_value=b"200")
    found.response_headers.headers.headers.add(key="content-length", raw_value=b"2")
    found.response_headers.headers.headers.add(key="content-type", raw_value=b"application/json")
    return found


async def test_a_stream_ends_with_ok_when_the_client_half_closes(stub: pb_grpc.ExternalProcessorStub) -> None:
    async with asyncio.timeout(5):
        call = stub.Process()
        await call.write(message())
        reply = await call.read()
        assert reply.request_body.response.body_mutation.body == b'{"payer":{"phone":"138****1234"}}'
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_half_closed_without_a_message(stub: pb_grpc.ExternalProcessorStub) -> None:
    async with asyncio.timeout(5):
        call = stub.Process()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_a_client_that_cancels_leaves_no_error_and_no_lost_outcome(
    stub: pb_grpc.ExternalProcessorStub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with asyncio.timeout(5):
        call = stub.Process()
        await call.write(response_headers())
        assert (await call.read()).HasField("mode_override")
        call.cancel()
        while not any(record.getMessage() == "outcome" for record in caplog.records):
            await asyncio.sleep(0.01)
        again = stub.Process()
        await again.write(message())
        await again.read()
        await again.done_writing()
        assert await again.code() is grpc.StatusCode.OK
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_stream_keeps_the_policy_it_began_with(stub: pb_grpc.ExternalProcessorStub, current: Current) -> None:
    async with asyncio.timeout(5):
        call = stub.Process()
        await call.write(message(b"{}"))
        await call.read()
        current.policy = Policy("v2", (), {}, {}, {}, {}, {}, {}, {}, {}, {}, {})
        await call.write(message())
        assert (await call.read()).WhichOneof("response") == "request_body"
        await call.done_writing()
        await call.code()
        call = stub.Process()
        await call.write(message())
        assert (await call.read()).immediate_response.status.code == 503
        await call.done_writing()
        await call.code()


async def test_logs_carry_the_trace(policy: Policy, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(record, "sanitized", lambda *_: seen.append(current_trace()))

    async def messages() -> AsyncIterator[pb.ProcessingRequest]:
        yield message()

    replies = ExternalProcessor(lambda: policy, record, Endings(None)).Process(messages(), None)
    async with contextlib.aclosing(replies):
        await asyncio.create_task(anext(replies))
    assert [trace.trace_id for trace in seen if trace] == [TRACE_ID]


async def test_a_streamed_answer_is_held_until_it_is_whole(stub: pb_grpc.ExternalProcessorStub) -> None:
    async with asyncio.timeout(5):
        call = stub.Process()
        first = response_headers()
        first.metadata_context.filter_metadata["envoy.filters.http.ext_authz"].update({"route": "answered"})
        first.protocol_config.response_body_mode = processing_mode_pb2.ProcessingMode.FULL_DUPLEX_STREAMED
        await call.write(first)
        for chunk, ends in ((b'{"payer":{"phone":"138', False), (b'12341234"}}', False), (b"", True)):
            await call.write(pb.ProcessingRequest(response_body=pb.HttpBody(body=chunk, end_of_stream=ends)))
        assert (await call.read()).WhichOneof("response") == "response_headers"
        piece = (await call.read()).response_body.response.body_mutation.streamed_response
        assert (piece.body, piece.end_of_stream) == (b'{"payer":{"phone":"138****1234"}}', True)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
