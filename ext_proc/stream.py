"""Owns one ext_proc stream: which message goes where. Refuses to know its transport: a message in, its replies out."""

from __future__ import annotations

from ext_proc.answering import AnswerChanger
from ext_proc.converting import Converter, Freshness
from ext_proc.messages import (
    Continue,
    Message,
    Phase,
    Reply,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from ext_proc.observing import ResponseObserver
from ext_proc.record import Record
from ext_proc.sanitizing import sanitize_request
from paymesh.payments.policy.compiled import Policy


class ProcessingStream:
    """The processing of one HTTP exchange, under the policy that it began with. Never raises."""

    def __init__(self, policy: Policy, record: Record, freshness: Freshness) -> None:
        self._policy = policy
        self._record = record
        self._freshness = freshness
        self._observer = ResponseObserver(policy, record)
        self._converter = Converter(policy, record, freshness)
        self._changer = AnswerChanger(policy, record, freshness, self._converter)
        self._streamed = False

    def process(self, message: Message) -> tuple[Reply, ...]:
        """The replies to one message. Exactly one, but for a streamed answer: none while it is gathered, then all."""
        match message:
            case RequestHeaders():
                self._streamed = self._streamed or message.streamed
                return (self._converter.headers(message),)
            case RequestBody() if self._converter.begun:
                return (self._converter.body(message),)
            case RequestBody():
                self._streamed = self._streamed or message.streamed
                return (sanitize_request(self._policy, message, self._record, self._freshness.now_s()),)
            case ResponseHeaders():
                self._streamed = self._streamed or message.streamed
                return self._changer.headers(message) if self._streamed else (self._observer.headers(message),)
            case ResponseBody():
                return self._changer.body(message) if self._streamed else (self._observer.body(message),)
            case ResponseTrailers():
                return self._changer.trailers() if self._streamed else (Continue(Phase.RESPONSE_TRAILERS),)
            case _:
                return (Continue(message.phase),)

    def close(self) -> None:
        """No more messages will come, for whatever reason."""
        self._observer.close()
        self._changer.close()
