"""Owns the protobuf of ext_proc: ProcessingRequest in, ProcessingResponse out. Refuses to decide anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.ext_proc.v3 import processing_mode_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.type.v3 import http_status_pb2

from ext_proc.messages import (
    Answer,
    AnswerHeaders,
    AnswerPiece,
    AskForResponseBody,
    Checked,
    Continue,
    Message,
    Phase,
    ReplaceRequest,
    ReplaceRequestBody,
    Reply,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Unasked,
)
from paymesh.payments import internal_names as names
from paymesh.payments.money import read_money

PIECE_BYTES = 65_536
"""Envoy's own chunks are no longer, and it wants none that are."""

_ATTRIBUTES = "envoy.filters.http.ext_proc"
_VIA_UPSTREAM = "via_upstream"
"""Envoy's `response.code_details` of an answer that a service gave."""
_MODE = processing_mode_pb2.ProcessingMode


def read_message(message: pb.ProcessingRequest) -> Message:
    """The message as plain facts. Raises ValueError for one without any part."""
    checked = _checked(message)
    part = message.WhichOneof("request")
    match part:
        case "request_headers":
            headers = message.request_headers
            client_ip = _attribute(message, "source.address").rpartition(":")[0].strip("[]")
            return RequestHeaders(checked, _headers(headers), headers.end_of_stream, client_ip, _streamed(message))
        case "request_body":
            return RequestBody(checked, message.request_body.body, _streamed(message))
        case "response_headers":
            headers = message.response_headers
            from_service = _attribute(message, "response.code_details") == _VIA_UPSTREAM
            return ResponseHeaders(checked, _headers(headers), headers.end_of_stream, _streamed(message), from_service)
        case "response_body":
            return ResponseBody(checked, message.response_body.body, message.response_body.end_of_stream)
        case "response_trailers":
            return ResponseTrailers(checked)
        case None:
            raise ValueError("a ProcessingRequest without a part")
        case _:
            return Unasked(checked, Phase(part))


def _streamed(message: pb.ProcessingRequest) -> bool:
    return bool(message.protocol_config.response_body_mode == _MODE.FULL_DUPLEX_STREAMED)


def _attribute(message: pb.ProcessingRequest, name: str) -> str:
    # Reading a missing key of a protobuf map would add it.
    if _ATTRIBUTES not in message.attributes or name not in message.attributes[_ATTRIBUTES].fields:
        return ""
    return str(message.attributes[_ATTRIBUTES].fields[name].string_value)


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
        content_type=text(names.META_CONTENT_TYPE),
        operation=text(names.META_OPERATION),
        merchant=text(names.META_MERCHANT),
        begun_at_s=int(text(names.META_BEGUN_AT)) if names.META_BEGUN_AT in fields else None,
        ordered=read_money(text(names.META_ORDERED)) if names.META_ORDERED in fields else None,
        recorded=names.META_RECORDED in fields,
    )


def _headers(message: pb.HttpHeaders) -> Mapping[str, str]:
    # Envoy fills raw_value; value is for older ones.
    return {header.key: header.value or header.raw_value.decode("latin-1") for header in message.headers.headers}


def write_reply(reply: Reply) -> Iterator[pb.ProcessingResponse]:
    """The reply as Envoy reads it: one message, but for long pieces of a streamed answer."""
    match reply:
        case Continue():
            response = pb.ProcessingResponse()
            getattr(response, reply.phase.value).SetInParent()
            yield _telling(response, reply)
        case ReplaceRequestBody():
            # No content-length here: the headers have gone already, and Envoy sends this body chunked.
            response = pb.ProcessingResponse()
            # In place: a message made of messages copies the body once for each of them.
            response.request_body.response.body_mutation.body = reply.body
            yield response
        case ReplaceRequest():
            yield _replacing(reply)
        case AskForResponseBody():
            yield pb.ProcessingResponse(
                response_headers=pb.HeadersResponse(response=pb.CommonResponse()),
                mode_override=_MODE(response_header_mode=_MODE.SEND, response_body_mode=_MODE.BUFFERED),
            )
        case AnswerHeaders():
            changed = pb.CommonResponse(header_mutation=_mutation(reply.set, reply.removed))
            yield _telling(pb.ProcessingResponse(response_headers=pb.HeadersResponse(response=changed)), reply)
        case AnswerPiece():
            yield from _pieces(reply.body, reply.ends)
        case Answer():
            yield _immediate(reply)


def _replacing(reply: ReplaceRequest) -> pb.ProcessingResponse:
    # Envoy sent nothing on yet, so that its length can be told.
    headers = (*reply.set, ("content-length", str(len(reply.body))))
    common = pb.CommonResponse(header_mutation=_mutation(headers, reply.removed))
    common.body_mutation.body = reply.body
    if reply.phase is Phase.REQUEST_BODY:
        return pb.ProcessingResponse(request_body=pb.BodyResponse(response=common))
    # Of a request without a body, which is to have one: this status alone lets it.
    common.status = pb.CommonResponse.CONTINUE_AND_REPLACE
    return pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=common))


def _telling(
    response: pb.ProcessingResponse, reply: Continue | AnswerHeaders | Answer, *, worded: bool = False
) -> pb.ProcessingResponse:
    told = {}
    if reply.outcome is not None:
        told = {names.META_OUTCOME: reply.outcome.value, names.META_FAULT: reply.fault.value}
    told |= {names.META_WORDED: names.WORDED} if worded else {}
    if told:
        # Top-level keys are metadata namespaces; Envoy takes those that receiving_namespaces allows.
        response.dynamic_metadata.update({names.OUTCOME_NAMESPACE: told})
    return response


def tell_ended(response: pb.ProcessingResponse) -> None:
    """Add to what is told of the outcome that it is recorded."""
    told = response.dynamic_metadata.fields[names.OUTCOME_NAMESPACE].struct_value
    told.fields[names.META_ENDED].string_value = names.ENDED


def _pieces(body: bytes, ends: bool) -> Iterator[pb.ProcessingResponse]:
    for start in range(0, max(len(body), 1), PIECE_BYTES):
        last = start + PIECE_BYTES >= len(body)
        response = pb.ProcessingResponse()
        piece = response.response_body.response.body_mutation.streamed_response
        piece.body = body[start : start + PIECE_BYTES]
        piece.end_of_stream = ends and last
        yield response


def _mutation(headers: Iterable[tuple[str, str]], removed: Iterable[str] = ()) -> pb.HeaderMutation:
    found = [
        base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key=name, raw_value=value.encode("latin-1", "replace")),
            append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers
    ]
    return pb.HeaderMutation(set_headers=found, remove_headers=removed)


def _immediate(reply: Answer) -> pb.ProcessingResponse:
    answer = pb.ImmediateResponse(
        status=http_status_pb2.HttpStatus(code=reply.refusal.status),
        headers=_mutation(reply.refusal.headers),
        body=reply.refusal.body,
        details="paymesh_ext_proc_answered",
    )
    return _telling(pb.ProcessingResponse(immediate_response=answer), reply, worded=True)
