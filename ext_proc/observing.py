"""Owns reading the outcome of a response as it passes. Refuses to touch it: every reply lets it go on unchanged."""

from __future__ import annotations

from collections.abc import Mapping

from ext_proc.messages import AskForResponseBody, Checked, Continue, Phase, Reply, ResponseBody, ResponseHeaders
from ext_proc.record import Record
from paymesh.payments.internal_names import DECISION_ALLOW
from paymesh.payments.outcome import Outcome, read_outcome, read_status
from paymesh.payments.policy.compiled import Policy, Route
from paymesh.server.logs import describe_error

MAX_OBSERVED_BYTES = 65_536
"""A longer body, or one of unknown length, passes unread: buffering it could fail a payment that succeeded."""


class ResponseObserver:
    """Observes one response: headers, then perhaps the body that it asked for."""

    def __init__(self, policy: Policy, record: Record) -> None:
        self._policy = policy
        self._record = record
        self._awaiting: tuple[Checked, Route, int] | None = None

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
        checked, route, status = self._awaiting
        self._awaiting = None
        try:
            outcome, why = read_outcome(route.protocol, route.operation, status, message.body)
            return self._observed(Phase.RESPONSE_BODY, checked, outcome, why)
        except Exception as error:  # open, as above
            return self._failed(Phase.RESPONSE_BODY, checked, error)

    def close(self) -> None:
        """The stream ended. A body that was asked for and never came leaves the outcome unknown."""
        if self._awaiting is not None:
            checked, self._awaiting = self._awaiting[0], None
            self._record.outcome(checked, Outcome.UNKNOWN, "the response ended before its body was seen")

    def _headers(self, message: ResponseHeaders, checked: Checked) -> Reply:
        route = self._policy.routes_by_name.get(checked.route)
        if route is None:
            return self._observed(
                Phase.RESPONSE_HEADERS, checked, Outcome.UNKNOWN, "the policy in force has no such route"
            )
        if not route.observe_response:
            return Continue(Phase.RESPONSE_HEADERS)
        status = int(message.headers[":status"])
        unseen = "it has none" if message.ends else _why_not_read(message.headers)
        if unseen is None and read_status(route.protocol, route.operation, status) is None:
            self._awaiting = (checked, route, status)
            return AskForResponseBody()
        outcome, why = read_outcome(route.protocol, route.operation, status, None)
        if unseen is not None and read_status(route.protocol, route.operation, status) is None:
            why = f"{why}: {unseen}"
        return self._observed(Phase.RESPONSE_HEADERS, checked, outcome, why)

    def _observed(self, phase: Phase, checked: Checked, outcome: Outcome, why: str) -> Continue:
        self._record.outcome(checked, outcome, why)
        return Continue(phase, outcome)

    def _failed(self, phase: Phase, checked: Checked, error: Exception) -> Continue:
        self._record.not_observed(phase, error)
        return self._observed(phase, checked, Outcome.UNKNOWN, f"not observed: {describe_error(error)}")


def _why_not_read(headers: Mapping[str, str]) -> str | None:
    """Why a body is not asked for, or None: it is JSON as it stands, and short enough."""
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return "its length is not known beforehand"
    if len(length) > len(str(MAX_OBSERVED_BYTES)) or int(length) > MAX_OBSERVED_BYTES:
        return f"it is longer than {MAX_OBSERVED_BYTES} bytes"
    return why_unreadable(headers)


def why_unreadable(headers: Mapping[str, str]) -> str | None:
    """Why no outcome can be read in a body of whatever length, or None."""
    if is_encoded(headers):
        return "it has a content-encoding"
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return None if media_type == "application/json" else "its content-type is not application/json"


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether the body is compressed, or otherwise not as it is."""
    return headers.get("content-encoding", "identity").strip().lower() != "identity"
