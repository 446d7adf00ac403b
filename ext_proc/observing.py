"""Owns reading the outcome of a response as it passes. Refuses to touch it: every reply lets it go on unchanged."""

from __future__ import annotations

from collections.abc import Mapping

from ext_proc.messages import AskForResponseBody, Checked, Continue, Phase, Reply, ResponseBody, ResponseHeaders
from ext_proc.record import Record
from paymesh.payments.internal_names import DECISION_ALLOW
from paymesh.payments.outcome import Fault, Outcome, Reading, media_types, read_outcome, read_status
from paymesh.payments.policy.compiled import Policy, Protocol, Route
from paymesh.server.logs import describe_error

MAX_OBSERVED_BYTES = 65_536
"""A longer body, or one of unknown length, passes unread: buffering it could fail a payment that succeeded."""
_ENDED_UNSEEN = Reading(Outcome.UNKNOWN, "the response ended before its body was seen", Fault.CHANNEL)


class ResponseObserver:
    """Observes one response: headers, then perhaps the body that it asked for."""

    def __init__(self, policy: Policy, record: Record) -> None:
        self._policy = policy
        self._record = record
        self._awaiting: tuple[Checked, Route, int, str | None] | None = None

    def headers(self, message: ResponseHeaders) -> Reply:
        """Decide by the headers, or ask for the body."""
        checked = message.checked
        if checked is None or checked.decision != DECISION_ALLOW:
            return Continue(Phase.RESPONSE_HEADERS)
        try:
            return self._headers(message, checked)
        except Exception as error:  # open: what we cannot read is still the merchant's answer
            return self._failed(Phase.RESPONSE_HEADERS, checked, error)

    def body(self, message: ResponseBody) -> Reply:
        """Decide by the body that was asked for; any other one passes."""
        if self._awaiting is None:
            return Continue(Phase.RESPONSE_BODY)
        checked, route, status, content_type = self._awaiting
        self._awaiting = None
        try:
            found = read_outcome(route.protocol, route.operation, status, message.body, content_type)
            return self._observed(Phase.RESPONSE_BODY, checked, found)
        except Exception as error:  # open, as above
            return self._failed(Phase.RESPONSE_BODY, checked, error)

    def close(self) -> None:
        """The stream ended. A body that was asked for and never came leaves the outcome unknown."""
        if self._awaiting is not None:
            checked, self._awaiting = self._awaiting[0], None
            self._record.outcome(checked, _ENDED_UNSEEN)

    def _headers(self, message: ResponseHeaders, checked: Checked) -> Reply:
        route = self._policy.routes_by_name.get(checked.route)
        if route is None:
            return self._observed(Phase.RESPONSE_HEADERS, checked, not_read("the policy in force has no such route"))
        if not route.observe_response:
            return Continue(Phase.RESPONSE_HEADERS)
        status = int(message.headers[":status"])
        decided = read_status(route.protocol, route.operation, status)
        if decided is not None:
            return self._observed(Phase.RESPONSE_HEADERS, checked, decided)
        unseen = "it has none" if message.ends else _why_not_read(message.headers, route.protocol)
        if unseen is None:
            self._awaiting = (checked, route, status, message.headers.get("content-type"))
            return AskForResponseBody()
        found = read_outcome(route.protocol, route.operation, status, None)
        return self._observed(Phase.RESPONSE_HEADERS, checked, found._replace(why=f"{found.why}: {unseen}"))

    def _observed(self, phase: Phase, checked: Checked, found: Reading) -> Continue:
        self._record.outcome(checked, found)
        return Continue(phase, found.outcome, found.fault)

    def _failed(self, phase: Phase, checked: Checked, error: Exception) -> Continue:
        self._record.not_observed(phase, error)
        return self._observed(phase, checked, not_read(f"not observed: {describe_error(error)}"))


def not_read(why: str) -> Reading:
    """What we could not read by our own doing: it says nothing about the channel."""
    return Reading(Outcome.UNKNOWN, why, Fault.NONE)


def _why_not_read(headers: Mapping[str, str], protocol: Protocol) -> str | None:
    """Why a body is not asked for, or None: it is what the protocol answers with, as it stands, and short enough."""
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return "its length is not known beforehand"
    if len(length) > len(str(MAX_OBSERVED_BYTES)) or int(length) > MAX_OBSERVED_BYTES:
        return f"it is longer than {MAX_OBSERVED_BYTES} bytes"
    return why_unreadable(headers, protocol)


def why_unreadable(headers: Mapping[str, str], protocol: Protocol) -> str | None:
    """Why no outcome can be read in a body of whatever length, or None."""
    if is_encoded(headers):
        return "it has a content-encoding"
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    known = media_types(protocol)
    return None if media_type in known else f"its content-type is not {' or '.join(sorted(known))}"


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether the body is compressed, or otherwise not as it is."""
    return headers.get("content-encoding", "identity").strip().lower() != "identity"
