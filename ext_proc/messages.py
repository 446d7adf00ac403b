"""Owns what ext_proc hears and says, free of protobuf. Refuses to decide: these are only facts and answers."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from paymesh.payments.money import Money
from paymesh.payments.outcome import Fault, Outcome
from paymesh.payments.refusals import Refusal


class Phase(enum.StrEnum):
    """The part of an exchange a message is about, named as in ProcessingRequest."""

    REQUEST_HEADERS = "request_headers"
    REQUEST_BODY = "request_body"
    REQUEST_TRAILERS = "request_trailers"
    RESPONSE_HEADERS = "response_headers"
    RESPONSE_BODY = "response_body"
    RESPONSE_TRAILERS = "response_trailers"


@dataclass(frozen=True, slots=True)
class Checked:
    """What ext_authz wrote about the request. Empty strings: it did not say."""

    decision: str = ""
    route: str = ""
    request_id: str = ""
    channel: str = ""
    trace_parent: str = ""
    content_type: str = ""
    """Of the request."""
    operation: str = ""
    merchant: str = ""
    begun_at_s: int | None = None
    """Unix seconds of the order's first attempt, where its channel's messages are written here."""
    ordered: Money | None = None
    """What was ordered, if a query, refund or close follows its order."""
    recorded: bool = False
    """Its attempt stands in the event log, and waits for its end."""


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """Shown where the whole request is written anew. Names are lower case, pseudo headers among them. `client_ip`: of
    the connection. `ends`: no body follows. `streamed`: this stream changes the answer, too."""

    checked: Checked | None
    headers: Mapping[str, str]
    ends: bool
    client_ip: str = ""
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class RequestBody:
    """`streamed`: this stream changes the answer, too; said in its first message only."""

    checked: Checked | None
    body: bytes
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    """`headers` have lower-case names; pseudo headers are among them. `ends`: no body follows. `streamed`: as above.
    `from_service`: Envoy did not answer in a service's place; told where answers are streamed."""

    checked: Checked | None
    headers: Mapping[str, str]
    ends: bool
    streamed: bool = False
    from_service: bool = False


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """The whole body, or where answers are streamed a chunk of it. `ends`: nothing follows, trailers neither."""

    checked: Checked | None
    body: bytes
    ends: bool = True


@dataclass(frozen=True, slots=True)
class ResponseTrailers:
    """They end a streamed body whose last chunk did not."""

    checked: Checked | None


@dataclass(frozen=True, slots=True)
class Unasked:
    """A message that our processing modes never ask for."""

    checked: Checked | None
    phase: Phase


Message = RequestHeaders | RequestBody | ResponseHeaders | ResponseBody | ResponseTrailers | Unasked


@dataclass(frozen=True, slots=True)
class Continue:
    """Change nothing. `outcome`, when known, travels as dynamic metadata, and `fault` beside it."""

    phase: Phase
    outcome: Outcome | None = None
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class ReplaceRequestBody:
    body: bytes


@dataclass(frozen=True, slots=True)
class ReplaceRequest:
    """Another request in its place. `phase`: of the message it answers; header names are lower case."""

    phase: Phase
    set: tuple[tuple[str, str], ...]
    removed: tuple[str, ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class AskForResponseBody:
    """Answers response headers: let the body be buffered and shown."""


@dataclass(frozen=True, slots=True)
class AnswerHeaders:
    """Answers the headers of a streamed answer, whenever its body is ready. Names are lower case."""

    set: tuple[tuple[str, str], ...] = ()
    """Each with this value alone."""
    removed: tuple[str, ...] = ()
    outcome: Outcome | None = None
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """More of a streamed answer's body, of any length, independent of the chunks that came."""

    body: bytes
    ends: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the caller at once: the upstream does not see the request, or the caller not the upstream's answer."""

    refusal: Refusal
    outcome: Outcome | None = None
    fault: Fault = Fault.NONE


Reply = Continue | ReplaceRequestBody | ReplaceRequest | AskForResponseBody | AnswerHeaders | AnswerPiece | Answer
