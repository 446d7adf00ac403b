"""Owns the protobuf of ext_proc: ProcessingRequest in, ProcessingResponse out. Refuses to decide anything."""

from __future__ import annotations

from collections.abc import Mapping

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.ext_proc.v3 import processing_mode_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.type.v3 import http_status_pb2

from ext_proc.messages import (
    Answer,
    AskForResponseBody,
    Checked,
    Continue,
    Message,
    Phase,
    ReplaceRequestBody,
    Reply,
    RequestBody,
    ResponseBody,
    ResponseHeaders,
    Unasked,
)
from paymesh.payments import internal_names as names
from paymesh.payments.refusals import Refusal


def read_message(message: pb.ProcessingRequest) -> Message:
    """The message as plain facts. Raises ValueError for one without any part."""
    checked = _checked(message)
    part = message.WhichOneof("request")
    match part:
        case "request_body":
            return RequestBody(checked, message.request_body.body)
        case "response_headers":
            headers = message.response_headers
            return ResponseHeaders(checked, _headers(headers), headers.end_of_stream)
        case "response_body":
            return ResponseBody(checked, message.response_body.body)
        case None:
            raise ValueError("a ProcessingRequest without a part")
        case _:
            return Unasked(checked, Phase(part))


def _checked(message: pb.ProcessingRequest) -> Checked | None:
    # Reading a missing key of a protobuf map would add it.
    if names.AUTHZ_FILTER not in message.metadata_context.filter_metadata:
        return None
    fields = message.metadata_context.filter_metadata[names.AUTHZ_FILTER].fields

    def text(key: str) -> str:
        return str(fields[key].string_value) if key in fields else ""

    return Checked(
        decision=text(names.META_DECISION),
        route=text(names.META_ROUTE),
        request_id=text(names.META_REQUEST_ID),
        channel=text(names.META_CHANNEL),
        trace_parent=text(names.META_TRACE_PARENT),
    )


def _headers(message: pb.HttpHeaders) -> Mapping[str, str]:
    # Envoy fills raw_value; value is for older ones.
    return {header.key: header.value or header.raw_value.decode("latin-1") for header in message.headers.headers}


def write_reply(reply: Reply) -> pb.ProcessingResponse:
    """The reply as Envoy reads it."""
    match reply:
        case Continue():
            return _continue(reply)
        case ReplaceRequestBody():
            # No content-length here: the headers have gone already, and Envoy sends this body chunked.
            mutation = pb.BodyMutation(body=reply.body)
            return pb.ProcessingResponse(
                request_body=pb.BodyResponse(response=pb.CommonResponse(body_mutation=mutation))
            )
        case AskForResponseBody():
            mode = processing_mode_pb2.ProcessingMode
            return pb.ProcessingResponse(
                response_headers=pb.HeadersResponse(response=pb.CommonResponse()),
                mode_override=mode(response_header_mode=mode.SEND, response_body_mode=mode.BUFFERED),
            )
        case Answer():
            return pb.ProcessingResponse(immediate_response=_immediate(reply.refusal))


def _continue(reply: Continue) -> pb.ProcessingResponse:
    response = pb.ProcessingResponse()
    getattr(response, reply.phase.value).SetInParent()
    if reply.outcome is not None:
        # Top-level keys are metadata namespaces; Envoy takes those that receiving_namespaces allows.
        response.dynamic_metadata.update({names.OUTCOME_NAMESPACE: {names.META_OUTCOME: reply.outcome.value}})
    return response


def _immediate(refusal: Refusal) -> pb.ImmediateResponse:
    headers = [
        base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key=name, raw_value=value.encode("latin-1", "replace")),
            append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in refusal.headers
    ]
    return pb.ImmediateResponse(
        status=http_status_pb2.HttpStatus(code=refusal.status),
        headers=pb.HeaderMutation(set_headers=headers),
        body=refusal.body,
        details="paymesh_ext_proc_unavailable",
    )
