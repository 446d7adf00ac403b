"""Owns one ext_proc stream: which message goes where. Refuses to know its transport: one message in, one reply out."""

from __future__ import annotations

from ext_proc.messages import Continue, Message, Reply, RequestBody, ResponseBody, ResponseHeaders
from ext_proc.observing import ResponseObserver
from ext_proc.record import Record
from ext_proc.sanitizing import sanitize_request
from paymesh.payments.policy.compiled import Policy


class ProcessingStream:
    """The processing of one HTTP exchange, under the policy that it began with. Never raises."""

    def __init__(self, policy: Policy, record: Record) -> None:
        self._policy = policy
        self._record = record
        self._observer = ResponseObserver(policy, record)

    def process(self, message: Message) -> Reply:
        """The reply to one message; each message has exactly one."""
        match message:
            case RequestBody():
                return sanitize_request(self._policy, message, self._record)
            case ResponseHeaders():
                return self._observer.headers(message)
            case ResponseBody():
                return self._observer.body(message)
            case _:
                return Continue(message.phase)

    def close(self) -> None:
        """No more messages will come, for whatever reason."""
        self._observer.close()
