"""Owns changing a streamed answer: gathered whole, read, its fields hidden, signed again, and only then sent on.

Refuses to let an answer pass that was to be changed and cannot be, unless its route says so: its caller hears that the
outcome is unknown instead. Until the last chunk came nothing of an answer has gone to the caller, so that is possible
at any time. Signing costs 0.6 ms of this process, once an answer: less than handing it to a thread would be worth.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ext_proc.messages import (
    Answer,
    AnswerHeaders,
    AnswerPiece,
    Checked,
    Continue,
    Phase,
    Reply,
    ResponseBody,
    ResponseHeaders,
)
from ext_proc.observing import is_encoded, why_unreadable
from ext_proc.record import Record
from ext_proc.sanitizing import addressee
from paymesh.payments.answer_signing import AnswerNotSignable, SignedAnswer, sign_answer
from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.fields.sanitize import sanitize_body
from paymesh.payments.internal_names import DECISION_ALLOW
from paymesh.payments.outcome import Outcome, read_outcome
from paymesh.payments.policy.compiled import Operation, Policy, Route
from paymesh.payments.policy.field_rules import UnreadableAnswers
from paymesh.payments.refusals import (
    ANSWER_WITHHELD,
    ANSWER_WITHHELD_WORDS,
    OUTCOME_UNKNOWN,
    OUTCOME_UNKNOWN_WORDS,
    write_words,
)
from paymesh.server.logs import describe_error

ABOUT_THE_OLD_BODY = ("content-length", "etag", "content-md5", "digest", "content-digest", "repr-digest")
"""Headers that no longer hold for a body that was changed (RFC 9110 sections 8.6 and 8.8.3, RFC 1864, RFC 9530)."""
_MOVES_MONEY = frozenset({Operation.PAY, Operation.REFUND, Operation.CLOSE})


@dataclass(frozen=True, slots=True)
class Freshness:
    """What makes a signature fresh."""

    now_s: Callable[[], int]
    """Unix seconds."""
    nonce: Callable[[], str]


SYSTEM_FRESHNESS = Freshness(lambda: int(time.time()), lambda: secrets.token_hex(16))


@dataclass(slots=True)
class _Gathering:
    checked: Checked
    route: Route
    status: int
    headers: Mapping[str, str]
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0


class AnswerChanger:
    """Changes one answer. What is not gathered passes as it comes."""

    def __init__(self, policy: Policy, record: Record, freshness: Freshness) -> None:
        self._policy = policy
        self._record = record
        self._freshness = freshness
        self._gathering: _Gathering | None = None
        self._withheld = False

    def headers(self, message: ResponseHeaders) -> tuple[Reply, ...]:
        """Begin to gather; or pass, if there is nothing to change."""
        checked = message.checked
        if checked is None or checked.decision != DECISION_ALLOW:
            return (Continue(Phase.RESPONSE_HEADERS),)  # an answer of ours or of Envoy's, from before the service
        try:
            return self._headers(message, checked)
        except Exception as error:  # closed: not even its status is readable
            return self._withhold(checked, self._policy.routes_by_name.get(checked.route), describe_error(error), None)

    def body(self, message: ResponseBody) -> tuple[Reply, ...]:
        """Gather a chunk; the last one brings the whole answer."""
        held = self._gathering
        if held is None:
            return () if self._withheld else (AnswerPiece(message.body, message.ends),)
        held.chunks.append(message.body)
        held.size += len(message.body)
        limit = held.route.response_reading.limits.max_bytes
        if held.size > limit:
            return self._give_up(held, f"it is longer than {limit} bytes", message.ends)
        return self._whole(held, message.ends) if message.ends else ()

    def trailers(self) -> tuple[Reply, ...]:
        """They end a body as well."""
        if self._withheld:
            return ()
        held = self._gathering
        last = (Continue(Phase.RESPONSE_TRAILERS),)
        return last if held is None else (*self._whole(held, ends=False), *last)

    def close(self) -> None:
        """The stream ended. An answer that was not gathered to its end leaves the outcome unknown."""
        held, self._gathering = self._gathering, None
        if held is not None and held.route.observe_response:
            self._record.outcome(held.checked, Outcome.UNKNOWN, "the answer ended before its body was seen")

    def _headers(self, message: ResponseHeaders, checked: Checked) -> tuple[Reply, ...]:
        route = self._policy.routes_by_name.get(checked.route)
        if route is None:
            return self._withhold(checked, None, "the policy in force has no such route", None)
        held = _Gathering(checked, route, int(message.headers[":status"]), message.headers)
        if not (route.sanitize_response or route.sign_again):
            # Envoy has a newer policy. This stream began with ours, by which the answer is nothing to change.
            return (AnswerHeaders(outcome=self._observe(held, None)),)
        if message.ends:
            return self._whole(held, ends=True)
        why = _why_not_gathered(message.headers, route.response_reading.limits.max_bytes)
        if why is not None:
            return self._give_up(held, why, ends=False)
        self._gathering = held
        return ()

    def _whole(self, held: _Gathering, ends: bool) -> tuple[Reply, ...]:
        """The replies to an answer that is there whole. The outcome is read of what the service wrote."""
        self._gathering = None
        body = b"".join(held.chunks)
        outcome = self._observe(held, body)
        try:
            changed = self._change(held, body)
        except BodyError as error:
            return self._unreadable(held, body, f"the body is not readable ({error.kind})", outcome, ends)
        except AnswerNotSignable as error:
            return self._unreadable(held, body, f"not signed: {error}", outcome, ends)
        except Exception as error:  # a bug here must not let personal data through
            return self._unreadable(held, body, describe_error(error), outcome, ends)
        removed = changed.headers_removed if changed.body == body else (*changed.headers_removed, *ABOUT_THE_OLD_BODY)
        return _sent(held, AnswerHeaders(changed.headers, removed, outcome), changed.body, ends)

    def _change(self, held: _Gathering, body: bytes) -> SignedAnswer:
        route, content_type = held.route, held.headers.get("content-type")
        now_s = self._freshness.now_s()
        sanitized = sanitize_body(body, content_type, route.response_reading, route.sanitize_response, now_s)
        changed = SignedAnswer(sanitized.body, ())
        if route.sign_again:
            changed = self._sign(route, sanitized.body, content_type, now_s)
        self._record.answered(held.checked, sanitized.changed, signed=route.sign_again)
        return changed

    def _sign(self, route: Route, body: bytes, content_type: str | None, now_s: int) -> SignedAnswer:
        signer = self._policy.signers[route.protocol]
        try:
            return sign_answer(route.protocol, signer, body, content_type, now_s, self._freshness.nonce())
        except AnswerNotSignable:
            if body:
                raise
            return SignedAnswer(body, ())  # nothing is said, where the signature would stand in the body

    def _give_up(self, held: _Gathering, why: str, ends: bool) -> tuple[Reply, ...]:
        """The answer is not gathered any further."""
        self._gathering = None
        return self._unreadable(held, b"".join(held.chunks), why, self._observe(held, None), ends)

    def _unreadable(
        self, held: _Gathering, body: bytes, why: str, outcome: Outcome | None, ends: bool
    ) -> tuple[Reply, ...]:
        if held.route.unreadable_answers is UnreadableAnswers.WITHHOLD:
            return self._withhold(held.checked, held.route, why, outcome)
        self._record.not_changed(held.checked, why, withheld=False)
        return _sent(held, AnswerHeaders(outcome=outcome), body, ends)

    def _withhold(self, checked: Checked, route: Route | None, why: str, outcome: Outcome | None) -> tuple[Reply, ...]:
        self._withheld = True
        self._record.not_changed(checked, why, withheld=True)
        reason, words = ANSWER_WITHHELD, ANSWER_WITHHELD_WORDS
        if route is None or route.operation in _MOVES_MONEY:
            reason, words = OUTCOME_UNKNOWN, OUTCOME_UNKNOWN_WORDS
        refusal = write_words(words, reason, words.message, addressee(self._policy, checked, route))
        return (Answer(refusal, outcome),)

    def _observe(self, held: _Gathering, body: bytes | None) -> Outcome | None:
        """The outcome, recorded; None where nobody asks for it. `body` None or empty: not seen."""
        if not held.route.observe_response:
            return None
        try:
            seen = None if not body or why_unreadable(held.headers) else body
            outcome, why = read_outcome(held.route.protocol, held.route.operation, held.status, seen)
        except Exception as error:  # open: that it cannot be told does not change the answer
            self._record.not_observed(Phase.RESPONSE_BODY, error)
            outcome, why = Outcome.UNKNOWN, f"not observed: {describe_error(error)}"
        self._record.outcome(held.checked, outcome, why)
        return outcome


def _sent(held: _Gathering, headers: AnswerHeaders, body: bytes, ends: bool) -> tuple[Reply, ...]:
    """To an answer without a body none is added."""
    return (headers, AnswerPiece(body, ends)) if held.chunks else (headers,)


def _why_not_gathered(headers: Mapping[str, str], limit: int) -> str | None:
    """What the headers tell already."""
    if is_encoded(headers):
        return "it has a content-encoding"
    length = headers.get("content-length", "")
    known = length.isascii() and length.isdigit()
    return f"it is longer than {limit} bytes" if known and int(length[:20]) > limit else None
