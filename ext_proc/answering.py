"""Owns changing a streamed answer: gathered whole, read, its fields hidden, signed again, and only then sent on.

Refuses to let an answer pass that was to be changed and cannot be, unless its route says so: its caller hears that the
outcome is unknown instead. Until the last chunk came nothing of an answer has gone to the caller, so that is possible
at any time. Signing costs 0.6 ms of this process, once an answer: less than handing it to a thread would be worth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ext_proc.converting import Converter, Freshness
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
from ext_proc.observing import is_encoded, not_read, why_unreadable
from ext_proc.record import Record
from ext_proc.sanitizing import addressee
from paymesh.payments.answer_signing import AnswerNotSignable, SignedAnswer, sign_answer
from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.fields.sanitize import sanitize_body
from paymesh.payments.internal_names import DECISION_ALLOW
from paymesh.payments.outcome import Fault, Outcome, Reading, read_outcome
from paymesh.payments.policy.compiled import Operation, Policy, Route
from paymesh.payments.policy.field_rules import UnreadableAnswers
from paymesh.payments.refusals import (
    ANSWER_WITHHELD,
    ANSWER_WITHHELD_WORDS,
    OUTCOME_UNKNOWN,
    OUTCOME_UNKNOWN_WORDS,
    Refusal,
    write_words,
)
from paymesh.server.logs import describe_error

ABOUT_THE_OLD_BODY = ("content-length", "etag", "content-md5", "digest", "content-digest", "repr-digest")
"""Headers that no longer hold for a body that was changed (RFC 9110 sections 8.6 and 8.8.3, RFC 1864, RFC 9530)."""
_ENDED_UNSEEN = Reading(Outcome.UNKNOWN, "the answer ended before its body was seen", Fault.CHANNEL)
JSON_TYPE = "application/json"
_KEPT = frozenset({"date", "x-pay-request-id", "content-type"})
_MOVES_MONEY = frozenset({Operation.PAY, Operation.REFUND, Operation.CLOSE})


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

    def __init__(self, policy: Policy, record: Record, freshness: Freshness, converter: Converter) -> None:
        self._policy = policy
        self._converter = converter
        self._record = record
        self._freshness = freshness
        self._gathering: _Gathering | None = None
        self._withheld = False

    def headers(self, message: ResponseHeaders) -> tuple[Reply, ...]:
        """Begin to gather; or pass, if there is nothing to change."""
        checked = message.checked
        unsent = self._converter.begun and not self._converter.asked
        if checked is None or checked.decision != DECISION_ALLOW or unsent:
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
        if held is not None and (held.route.observe_response or self._converter.asked):
            self._record.outcome(held.checked, _ENDED_UNSEEN)

    def _headers(self, message: ResponseHeaders, checked: Checked) -> tuple[Reply, ...]:
        route = self._policy.routes_by_name.get(checked.route)
        if route is None:
            return self._withhold(checked, None, "the policy in force has no such route", None)
        held = _Gathering(checked, route, int(message.headers[":status"]), message.headers)
        if self._converter.asked and not message.from_service:
            # No provider's word: Envoy's own, in the caller's protocol already.
            return (_told(None),)
        if not (route.sanitize_response or route.sign_again or self._converter.asked):
            # Envoy has a newer policy. This stream began with ours, by which the answer is nothing to change.
            return (_told(self._observe(held, None)),)
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
        if self._converter.asked:
            return self._converted(held, body, ends)
        found = self._observe(held, body)
        try:
            changed = self._change(held, body)
        except BodyError as error:
            return self._unreadable(held, body, f"the body is not readable ({error.kind})", found, ends)
        except AnswerNotSignable as error:
            return self._unreadable(held, body, f"not signed: {error}", found, ends)
        except Exception as error:  # a bug here must not let personal data through
            return self._unreadable(held, body, describe_error(error), found, ends)
        removed = changed.headers_removed if changed.body == body else (*changed.headers_removed, *ABOUT_THE_OLD_BODY)
        return _sent(held, _told(found, changed.headers, removed), changed.body, ends)

    def _converted(self, held: _Gathering, body: bytes, ends: bool) -> tuple[Reply, ...]:
        """A provider's answer as the merchant reads it: whatever goes wrong, its own never passes."""
        route, now_s = held.route, self._freshness.now_s()
        found: Reading | None = None
        try:
            said = self._converter.read(held.status, held.headers, body, now_s)
            found = Reading(said.outcome, said.why, said.fault)
            self._record.outcome(held.checked, found)
            written = json.dumps(said.document, ensure_ascii=False).encode()
            changed = sanitize_body(written, JSON_TYPE, route.response_reading, route.sanitize_response, now_s)
        except Exception as error:  # closed: what it says is not known
            return self._withhold(held.checked, route, describe_error(error), found)
        self._record.answered(held.checked, changed.changed, signed=False)
        status = 202 if said.outcome is Outcome.UNKNOWN else 200
        type_ = ("content-type", JSON_TYPE)
        if not held.chunks:  # an answer without a body can be given none, but be answered in its place
            return (Answer(Refusal(status, (type_,), changed.body), found.outcome, found.fault),)
        headers = _told(found, ((":status", str(status)), type_), _provider_headers(held.headers))
        return (headers, AnswerPiece(changed.body, ends))

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
        self, held: _Gathering, body: bytes, why: str, found: Reading | None, ends: bool
    ) -> tuple[Reply, ...]:
        if held.route.unreadable_answers is UnreadableAnswers.WITHHOLD or self._converter.asked:
            return self._withhold(held.checked, held.route, why, found)
        self._record.not_changed(held.checked, why, withheld=False)
        return _sent(held, _told(found), body, ends)

    def _withhold(self, checked: Checked, route: Route | None, why: str, found: Reading | None) -> tuple[Reply, ...]:
        self._withheld = True
        self._record.not_changed(checked, why, withheld=True)
        reason, words = ANSWER_WITHHELD, ANSWER_WITHHELD_WORDS
        if route is None or route.operation in _MOVES_MONEY:
            reason, words = OUTCOME_UNKNOWN, OUTCOME_UNKNOWN_WORDS
        refusal = write_words(words, reason, words.message, addressee(self._policy, checked, route))
        return (Answer(refusal) if found is None else Answer(refusal, found.outcome, found.fault),)

    def _observe(self, held: _Gathering, body: bytes | None) -> Reading | None:
        """What it says, recorded; None where nobody asks for it. `body` None or empty: not seen."""
        if self._converter.asked:  # not read, then: its provider may have done what it was asked
            found = Reading(Outcome.UNKNOWN, "the answer was not there whole", Fault.CHANNEL)
            self._record.outcome(held.checked, found)
            return found
        if not held.route.observe_response:
            return None
        try:
            protocol, headers = held.route.protocol, held.headers
            seen = None if not body or why_unreadable(headers, protocol) else body
            found = read_outcome(protocol, held.route.operation, held.status, seen, headers.get("content-type"))
        except Exception as error:  # open: that it cannot be told does not change the answer
            self._record.not_observed(Phase.RESPONSE_BODY, error)
            found = not_read(f"not observed: {describe_error(error)}")
        self._record.outcome(held.checked, found)
        return found


def _provider_headers(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What a provider said beside its answer is for nobody but us."""
    return tuple(name for name in headers if not name.startswith((":", "x-envoy-")) and name not in _KEPT)


def _told(
    found: Reading | None, headers: tuple[tuple[str, str], ...] = (), removed: tuple[str, ...] = ()
) -> AnswerHeaders:
    if found is None:
        return AnswerHeaders(headers, removed)
    return AnswerHeaders(headers, removed, found.outcome, found.fault)


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
