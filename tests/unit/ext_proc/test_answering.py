"""A streamed answer: nothing goes on before it is whole, and then it is as its rules and its signature want it."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from prometheus_client import CollectorRegistry

from ext_proc import answering
from ext_proc.messages import (
    Answer,
    AnswerHeaders,
    AnswerPiece,
    Checked,
    Continue,
    Phase,
    Reply,
    RequestBody,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from ext_proc.stream import ProcessingStream
from paymesh.payments.outcome import Fault, Outcome
from paymesh.payments.signers import Signer
from tests.unit.ext_proc.conftest import MAX_ANSWER_BYTES, NONCE, NOW_S

ALLOWED = Checked(decision="allow", route="answered", request_id="r-1", channel="card", content_type="text/plain")
JSON = {"content-type": "application/json"}
BODY = b'{"status":"SUCCEEDED", "payer":{"phone":"13812341234"}}'
MASKED = b'{"status":"SUCCEEDED", "payer":{"phone":"138****1234"}}'
ABOUT_THE_OLD_BODY = ("content-length", "etag", "content-md5", "digest", "content-digest", "repr-digest")
Begin = Callable[[], ProcessingStream]


def headers(
    route: str = "answered", status: int = 200, more: dict[str, str] = JSON, *, ends: bool = False, **checked: str
) -> ResponseHeaders:
    found = replace(ALLOWED, route=route, **checked)
    return ResponseHeaders(found, {":status": str(status), **more}, ends, streamed=True)


def chunk(body: bytes, *, ends: bool = False) -> ResponseBody:
    return ResponseBody(ALLOWED, body, ends)


def answer(stream: ProcessingStream, first: ResponseHeaders, body: bytes) -> tuple[Reply, ...]:
    """The replies to a whole answer in two chunks and an empty last one."""
    replies = stream.process(first)
    for piece in (chunk(body[:7]), chunk(body[7:]), chunk(b"", ends=True)):
        replies += stream.process(piece)
    return replies


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, object]]:
    return [vars(found)["fields"] for found in caplog.records if found.getMessage() == event]


def test_an_answer_goes_on_when_it_is_whole_and_sanitised(
    stream: ProcessingStream, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert stream.process(headers()) == ()
    assert stream.process(chunk(BODY[:30])) == ()
    assert stream.process(chunk(BODY[30:])) == ()
    assert stream.process(chunk(b"", ends=True)) == (
        AnswerHeaders((), ABOUT_THE_OLD_BODY, Outcome.SUCCEEDED),
        AnswerPiece(MASKED, ends=True),
    )
    stream.close()
    assert [found["outcome"] for found in logged(caplog, "outcome")] == ["succeeded"]
    (told,) = logged(caplog, "answered")
    assert told["changed"] == ["mask /payer/phone"]
    assert "13812341234" not in str([vars(found) for found in caplog.records])
    assert registry.get_sample_value("paymesh_ext_proc_answers_total", {"route": "answered", "verdict": "changed"}) == 1
    labels = {"direction": "answer", "route": "answered", "action": "mask"}
    assert registry.get_sample_value("paymesh_ext_proc_sanitized_total", labels) == 1


def test_an_answer_without_anything_to_hide_keeps_its_headers(stream: ProcessingStream) -> None:
    body = b' {"status" : "ACCEPTED"} '
    expected = (AnswerHeaders(outcome=Outcome.ACCEPTED), AnswerPiece(body, ends=True))
    assert answer(stream, headers(), body) == expected


def test_one_stream_serves_both_ways(stream: ProcessingStream) -> None:
    request = replace(ALLOWED, content_type="application/json", route="pay")
    (reply,) = stream.process(RequestBody(request, b"{}", streamed=True))
    assert reply == Continue(Phase.REQUEST_BODY)
    later = replace(headers(), streamed=False)  # said only in the first message
    assert answer(stream, later, BODY)[1] == AnswerPiece(MASKED, ends=True)


def test_trailers_end_an_answer_as_well(stream: ProcessingStream) -> None:
    assert stream.process(headers()) == ()
    assert stream.process(chunk(BODY)) == ()
    assert stream.process(ResponseTrailers(ALLOWED)) == (
        AnswerHeaders((), ABOUT_THE_OLD_BODY, Outcome.SUCCEEDED),
        AnswerPiece(MASKED, ends=False),
        Continue(Phase.RESPONSE_TRAILERS),
    )


def test_trailers_without_any_body(stream: ProcessingStream) -> None:
    assert stream.process(headers()) == ()
    replies = stream.process(ResponseTrailers(ALLOWED))
    assert replies == (AnswerHeaders(outcome=Outcome.UNKNOWN, fault=Fault.CHANNEL), Continue(Phase.RESPONSE_TRAILERS))


@pytest.mark.parametrize("status", [200, 204, 304])
def test_an_answer_without_a_body_has_nothing_to_hide(stream: ProcessingStream, status: int) -> None:
    replies = stream.process(headers(status=status, more={"content-length": "500"}, ends=True))
    assert replies == (AnswerHeaders(outcome=Outcome.UNKNOWN, fault=Fault.CHANNEL),)


def test_an_empty_body_is_an_empty_body(stream: ProcessingStream) -> None:
    assert answer(stream, headers(more={}), b"") == (
        AnswerHeaders(outcome=Outcome.UNKNOWN, fault=Fault.CHANNEL),
        AnswerPiece(b"", True),
    )


def test_errors_of_the_service_are_sanitised_too(stream: ProcessingStream) -> None:
    told, piece = answer(stream, headers(status=500), BODY)
    assert (told, piece) == (
        AnswerHeaders((), ABOUT_THE_OLD_BODY, Outcome.UNKNOWN, Fault.CHANNEL),
        AnswerPiece(MASKED, ends=True),
    )


def test_nobody_asks_for_the_outcome(stream: ProcessingStream, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert answer(stream, headers("unobserved"), BODY)[0] == AnswerHeaders((), ABOUT_THE_OLD_BODY)
    stream.close()
    assert logged(caplog, "outcome") == []


# -- signed again ------------------------------------------------------------------------------------------------------


def signature_holds(signer: Signer, signature: str, text: bytes) -> None:
    public = signer.key.public_key()
    public.verify(base64.b64decode(signature), text, padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize(
    ("body", "sent"),
    [(BODY, MASKED), (b'{"trade_state":"NOTPAY"}', b'{"trade_state":"NOTPAY"}')],
    ids=["changed", "unchanged"],
)
def test_every_answer_is_signed(stream: ProcessingStream, signer: Signer, body: bytes, sent: bytes) -> None:
    told, piece = answer(stream, headers("signed", more=JSON | {"wechatpay-signature": "theirs"}), body)
    assert piece == AnswerPiece(sent, ends=True)
    assert isinstance(told, AnswerHeaders)
    found = dict(told.set)
    assert (found["wechatpay-timestamp"], found["wechatpay-nonce"]) == (str(NOW_S), NONCE)
    signature_holds(signer, found["wechatpay-signature"], f"{NOW_S}\n{NONCE}\n".encode() + sent + b"\n")
    assert told.removed == (ABOUT_THE_OLD_BODY if body != sent else ())


def test_an_empty_answer_is_signed_in_its_headers(stream: ProcessingStream, signer: Signer) -> None:
    (told,) = stream.process(headers("signed", 204, {}, ends=True))
    assert isinstance(told, AnswerHeaders)
    signature_holds(signer, dict(told.set)["wechatpay-signature"], f"{NOW_S}\n{NONCE}\n\n".encode())


def test_an_empty_answer_with_no_place_for_a_signature_passes(stream: ProcessingStream) -> None:
    (told,) = stream.process(headers("alipay-signed", 200, {}, ends=True))
    assert told == AnswerHeaders(outcome=Outcome.UNKNOWN, fault=Fault.CHANNEL)


def test_a_signature_in_the_body(stream: ProcessingStream, signer: Signer) -> None:
    body = b'{"alipay_trade_pay_response":{"code":"10000"},"sign":"theirs"}'
    told, piece = answer(stream, headers("alipay-signed", more={"content-type": "text/html;charset=utf-8"}), body)
    assert isinstance(told, AnswerHeaders)
    assert isinstance(piece, AnswerPiece)
    assert told.removed == ABOUT_THE_OLD_BODY
    signature_holds(signer, json.loads(piece.body)["sign"], b'{"code":"10000"}')


# -- what cannot be changed --------------------------------------------------------------------------------------------

LONG = b'{"payer":{}}'.ljust(MAX_ANSWER_BYTES + 1)
UNREADABLE = [
    ({"content-type": "application/json"}, b"not json", "not_json"),
    ({"content-type": "application/json"}, b'{"a":1,"a":2}', "duplicate_key"),
    ({"content-type": "text/html"}, BODY, "not readable"),
    ({}, BODY, "not readable"),
    (JSON | {"content-encoding": "gzip"}, b"\x1f\x8b", "content-encoding"),
    (JSON, LONG, "longer than 1000 bytes"),
    (JSON | {"content-length": str(len(LONG))}, LONG, "longer than 1000 bytes"),
    (JSON | {"content-length": "9" * 5000}, LONG, "longer than 1000 bytes"),
]


@pytest.mark.parametrize(("more", "body", "why"), UNREADABLE)
@pytest.mark.parametrize(
    ("route", "status", "code"), [("answered", 504, "outcome_unknown"), ("lookup", 502, "answer_withheld")]
)
def test_an_answer_that_cannot_be_read_is_withheld(
    stream: ProcessingStream,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    route: str,
    status: int,
    code: str,
    more: dict[str, str],
    body: bytes,
    why: str,
) -> None:
    (reply,) = answer(stream, headers(route, more=more), body)
    assert isinstance(reply, Answer)
    assert reply.refusal.status == status
    assert json.loads(reply.refusal.body)["code"] == code
    assert dict(reply.refusal.headers)["x-pay-reason"] == code
    assert dict(reply.refusal.headers)["x-pay-request-id"] == "r-1"
    assert stream.process(ResponseTrailers(ALLOWED)) == ()
    (told,) = logged(caplog, "answered")
    assert why in str(told)
    assert registry.get_sample_value("paymesh_ext_proc_answers_total", {"route": route, "verdict": "withheld"}) == 1


@pytest.mark.parametrize(("more", "body", "why"), UNREADABLE)
def test_or_it_passes_where_its_route_says_so(
    stream: ProcessingStream,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    more: dict[str, str],
    body: bytes,
    why: str,
) -> None:
    told, *pieces = answer(stream, headers("lenient", more=more), body)
    assert isinstance(told, AnswerHeaders)
    assert (told.set, told.removed) == ((), ())
    assert b"".join(piece.body for piece in pieces if isinstance(piece, AnswerPiece)) == body
    assert [piece.ends for piece in pieces if isinstance(piece, AnswerPiece)][-1] is True
    assert why in str(logged(caplog, "answered"))
    labels = {"route": "lenient", "verdict": "passed_unread"}
    assert registry.get_sample_value("paymesh_ext_proc_answers_total", labels) == 1


def test_a_withheld_answer_still_tells_the_outcome(stream: ProcessingStream) -> None:
    (reply,) = answer(stream, headers("unsignable"), BODY)
    assert isinstance(reply, Answer)
    assert reply.outcome is Outcome.SUCCEEDED


def test_a_withheld_answer_speaks_the_callers_protocol(stream: ProcessingStream) -> None:
    (reply,) = answer(stream, headers("alipay-signed"), b'{"a":1}')
    assert isinstance(reply, Answer)
    assert reply.refusal.status == 200
    assert json.loads(reply.refusal.body)["alipay_trade_pay_response"]["sub_code"] == "aop.ACQ.SYSTEM_ERROR"


def test_a_bug_withholds_and_its_text_is_not_logged(
    stream: ProcessingStream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("13812341234")

    monkeypatch.setattr(answering, "sanitize_body", broken)
    (reply,) = answer(stream, headers(), BODY)
    assert isinstance(reply, Answer)
    assert "KeyError" in str(logged(caplog, "answered"))
    assert "13812341234" not in str([vars(found) for found in caplog.records])


def test_a_bug_while_reading_the_outcome_leaves_the_answer_alone(
    stream: ProcessingStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(answering, "read_outcome", broken)
    told, piece = answer(stream, headers(), BODY)
    assert (told, piece) == (
        AnswerHeaders((), ABOUT_THE_OLD_BODY, Outcome.UNKNOWN),
        AnswerPiece(MASKED, ends=True),
    )


@pytest.mark.parametrize(
    "first",
    [headers("gone"), headers(more={":status": "abc"})],
    ids=["a route that the policy has not", "a status that is none"],
)
def test_what_nobody_can_tell_is_withheld(stream: ProcessingStream, first: ResponseHeaders) -> None:
    (reply,) = answer(stream, first, BODY)
    assert isinstance(reply, Answer)
    assert json.loads(reply.refusal.body)["code"] == "outcome_unknown"


# -- what is not to be changed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("checked", [None, Checked(), replace(ALLOWED, decision="deny")])
def test_refusals_pass_as_they_come(
    stream: ProcessingStream, checked: Checked | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = replace(headers(), checked=checked)
    assert stream.process(first) == (Continue(Phase.RESPONSE_HEADERS),)
    assert stream.process(ResponseBody(checked, b"a", False)) == (AnswerPiece(b"a", False),)
    assert stream.process(ResponseBody(checked, b"b", True)) == (AnswerPiece(b"b", True),)
    assert stream.process(ResponseTrailers(checked)) == (Continue(Phase.RESPONSE_TRAILERS),)
    stream.close()
    assert not caplog.records


def test_under_an_older_policy_without_rules_the_answer_passes(stream: ProcessingStream) -> None:
    told, *pieces = answer(stream, headers("pay"), BODY)
    assert told == AnswerHeaders(outcome=Outcome.UNKNOWN, fault=Fault.CHANNEL)
    assert b"".join(piece.body for piece in pieces if isinstance(piece, AnswerPiece)) == BODY


def test_an_answer_that_breaks_off_is_unknown(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for replies in (0, 1):
        stream = begin()
        stream.process(headers())
        stream.process(chunk(BODY[:9], ends=False)) if replies else None
        stream.close()
        stream.close()
    assert [found["outcome"] for found in logged(caplog, "outcome")] == ["unknown", "unknown"]
