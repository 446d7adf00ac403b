"""Protobuf in and out: each part is read, each reply is what Envoy expects."""

import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from ext_proc.messages import (
    Answer,
    AnswerHeaders,
    AnswerPiece,
    AskForResponseBody,
    Checked,
    Continue,
    Phase,
    ReplaceRequestBody,
    Reply,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Unasked,
)
from ext_proc.wire import PIECE_BYTES, read_message, write_reply
from paymesh.payments.outcome import Fault, Outcome
from paymesh.payments.refusals import Refusal

METADATA = {
    "decision": "allow",
    "route": "pay",
    "request_id": "r",
    "channel": "card",
    "traceparent": "00-1",
    "content_type": "t",
}


def only(reply: Reply) -> pb.ProcessingResponse:
    (written,) = write_reply(reply)
    return written


def request(**part: object) -> pb.ProcessingRequest:
    message = pb.ProcessingRequest(**part)
    message.metadata_context.filter_metadata["envoy.filters.http.ext_authz"].update(METADATA)
    return pb.ProcessingRequest.FromString(message.SerializeToString())


def test_read() -> None:
    checked = Checked("allow", "pay", "r", "card", "00-1", "t")
    body = pb.HttpBody(body=b"\xff", end_of_stream=True)
    assert read_message(request(request_body=body)) == RequestBody(checked, b"\xff")
    assert read_message(request(response_body=body)) == ResponseBody(checked, b"\xff", True)
    chunk = pb.HttpBody(body=b"\xff")
    assert read_message(request(response_body=chunk)) == ResponseBody(checked, b"\xff", False)
    assert read_message(request(response_trailers=pb.HttpTrailers())) == ResponseTrailers(checked)
    assert read_message(request(request_headers=pb.HttpHeaders())) == RequestHeaders(checked, {}, False)
    assert read_message(request(request_trailers=pb.HttpTrailers())) == Unasked(checked, Phase.REQUEST_TRAILERS)
    headers = pb.HttpHeaders(end_of_stream=True)
    headers.headers.headers.add(key=":status", raw_value=b"200")
    headers.headers.headers.add(key="x", value="\u00e9")
    assert read_message(request(response_headers=headers)) == ResponseHeaders(
        checked, {":status": "200", "x": "é"}, True
    )


def test_read_without_metadata_does_not_make_any() -> None:
    message = pb.ProcessingRequest(request_body=pb.HttpBody(body=b"{}"))
    assert read_message(message) == RequestBody(None, b"{}")
    assert not message.HasField("metadata_context")
    message.metadata_context.filter_metadata["envoy.filters.http.ext_authz"].update({"decision": 1})
    assert read_message(message) == RequestBody(Checked(), b"{}")


def test_an_empty_message_is_an_error() -> None:
    with pytest.raises(ValueError, match="without a part"):
        read_message(pb.ProcessingRequest())


@pytest.mark.parametrize("phase", list(Phase))
def test_continue_changes_nothing(phase: Phase) -> None:
    response = only(Continue(phase))
    assert response.WhichOneof("response") == phase.value
    assert [field.name for field, _ in response.ListFields()] == [phase.value]
    assert not getattr(response, phase.value).ListFields()


def test_the_outcome_is_metadata_under_its_namespace() -> None:
    response = only(Continue(Phase.RESPONSE_BODY, Outcome.REFUSED, Fault.PAYER))
    assert dict(response.dynamic_metadata["paymesh.outcome"]) == {"outcome": "refused", "fault": "payer"}


def test_the_other_replies() -> None:
    response = only(ReplaceRequestBody(b"{}")).request_body.response
    assert response.body_mutation.body == b"{}"
    assert not response.HasField("header_mutation")
    asked = only(AskForResponseBody())
    assert asked.WhichOneof("response") == "response_headers"
    assert asked.mode_override.response_body_mode == asked.mode_override.BUFFERED
    answer = only(Answer(Refusal(503, (("x-pay-reason", "unavailable"),), b"{}"))).immediate_response
    assert (answer.status.code, answer.body) == (503, b"{}")
    assert answer.headers.set_headers[0].header.raw_value == b"unavailable"


def test_local_replies_leave_what_ext_proc_answers() -> None:
    response = only(Answer(Refusal(504, (), b"{}"), Outcome.SUCCEEDED))
    told = {"outcome": "succeeded", "fault": "none", "worded": "true"}
    assert dict(response.dynamic_metadata["paymesh.outcome"]) == told


def test_a_stream_says_at_its_beginning_whether_answers_are_streamed() -> None:
    streamed = pb.ProtocolConfiguration(response_body_mode="FULL_DUPLEX_STREAMED")
    watched = pb.ProtocolConfiguration(response_body_mode="BUFFERED")
    for config, expected in ((streamed, True), (watched, False), (None, False)):
        body = read_message(request(request_body=pb.HttpBody(), protocol_config=config))
        headers = read_message(request(response_headers=pb.HttpHeaders(), protocol_config=config))
        assert isinstance(body, RequestBody)
        assert isinstance(headers, ResponseHeaders)
        assert (body.streamed, headers.streamed) == (expected, expected)


def test_changed_headers() -> None:
    response = only(AnswerHeaders((("x", "1"),), ("etag",), Outcome.ACCEPTED))
    mutation = response.response_headers.response.header_mutation
    (header,) = mutation.set_headers
    assert (header.header.key, header.header.raw_value) == ("x", b"1")
    assert header.append_action == header.OVERWRITE_IF_EXISTS_OR_ADD
    assert list(mutation.remove_headers) == ["etag"]
    assert response.dynamic_metadata["paymesh.outcome"]["outcome"] == "accepted"


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_a_streamed_body_goes_in_pieces_of_which_the_last_ends_it(size: int, ends: bool) -> None:
    body = bytes(number % 251 for number in range(size))
    pieces = [
        response.response_body.response.body_mutation.streamed_response
        for response in write_reply(AnswerPiece(body, ends))
    ]
    assert b"".join(piece.body for piece in pieces) == body
    assert all(len(piece.body) <= PIECE_BYTES for piece in pieces)
    assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [ends]
