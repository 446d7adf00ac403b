"""Protobuf in and out: each part is read, each reply is what Envoy expects."""

import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from ext_proc.messages import (
    Answer,
    AskForResponseBody,
    Checked,
    Continue,
    Phase,
    ReplaceRequestBody,
    RequestBody,
    ResponseBody,
    ResponseHeaders,
    Unasked,
)
from ext_proc.wire import read_message, write_reply
from paymesh.payments.outcome import Outcome
from paymesh.payments.refusals import Refusal

METADATA = {"decision": "allow", "route": "pay", "request_id": "r", "channel": "card", "traceparent": "00-1"}


def request(**part: object) -> pb.ProcessingRequest:
    message = pb.ProcessingRequest(**part)
    message.metadata_context.filter_metadata["envoy.filters.http.ext_authz"].update(METADATA)
    return pb.ProcessingRequest.FromString(message.SerializeToString())


def test_read() -> None:
    checked = Checked("allow", "pay", "r", "card", "00-1")
    body = pb.HttpBody(body=b"\xff", end_of_stream=True)
    assert read_message(request(request_body=body)) == RequestBody(checked, b"\xff")
    assert read_message(request(response_body=body)) == ResponseBody(checked, b"\xff")
    assert read_message(request(request_headers=pb.HttpHeaders())) == Unasked(checked, Phase.REQUEST_HEADERS)
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
    response = write_reply(Continue(phase))
    assert response.WhichOneof("response") == phase.value
    assert [field.name for field, _ in response.ListFields()] == [phase.value]
    assert not getattr(response, phase.value).ListFields()


def test_the_outcome_is_metadata_under_its_namespace() -> None:
    response = write_reply(Continue(Phase.RESPONSE_BODY, Outcome.ACCEPTED))
    assert response.dynamic_metadata["paymesh.outcome"]["outcome"] == "accepted"


def test_the_other_replies() -> None:
    response = write_reply(ReplaceRequestBody(b"{}")).request_body.response
    assert response.body_mutation.body == b"{}"
    assert not response.HasField("header_mutation")
    asked = write_reply(AskForResponseBody())
    assert asked.WhichOneof("response") == "response_headers"
    assert asked.mode_override.response_body_mode == asked.mode_override.BUFFERED
    answer = write_reply(Answer(Refusal(503, (("x-pay-reason", "unavailable"),), b"{}"))).immediate_response
    assert (answer.status.code, answer.body) == (503, b"{}")
    assert answer.headers.set_headers[0].header.raw_value == b"unavailable"
