"""One stream, no transport: a request body is sanitised or refused, a response is observed and never changed."""

import json
import logging
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from ext_proc import observing, sanitizing
from ext_proc.messages import (
    Answer,
    AskForResponseBody,
    Checked,
    Continue,
    Phase,
    ReplaceRequestBody,
    Reply,
    RequestBody,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Unasked,
)
from ext_proc.stream import ProcessingStream
from paymesh.payments.outcome import Fault, Outcome

ALLOWED = Checked(
    decision="allow", route="pay", request_id="r-1", channel="card", content_type="application/json; charset=utf-8"
)
JSON = {"content-type": "application/json; charset=utf-8", "content-length": "22"}
HTML = JSON | {"content-type": "text/html;charset=utf-8"}
TO_ALIPAY = replace(ALLOWED, route="alipay")
TOO_LITTLE = (
    '{"alipay_trade_pay_response":{"code":"40004","sub_code":"ACQ.BUYER_BALANCE_NOT_ENOUGH","sub_msg":"余额不足"},'
    '"sign":"s"}'
).encode()
BODY = b'{"payer": {"phone":"13812341234"}, "card":{"cvv":"123","n":1.0}}'


def only(replies: tuple[Reply, ...]) -> Reply:
    (reply,) = replies
    return reply


def headers(
    status: int, more: dict[str, str] = JSON, *, checked: Checked | None = ALLOWED, ends: bool = False
) -> ResponseHeaders:
    return ResponseHeaders(checked, {":status": str(status), **more}, ends)


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, object]]:
    return [vars(found)["fields"] for found in caplog.records if found.getMessage() == event]


def test_a_body_is_sanitised_and_nothing_of_it_is_logged(
    stream: ProcessingStream, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reply = only(stream.process(RequestBody(ALLOWED, BODY)))
    assert reply == ReplaceRequestBody(b'{"payer": {"phone":"138****1234"}, "card":{"n":1.0}}')
    assert logged(caplog, "sanitized") == [
        {
            "request_id": "r-1",
            "route": "pay",
            "channel": "card",
            "changed": ["mask /payer/phone", "drop /card/cvv"],
            "steps": [{"step": "sanitize", "verdict": "changed", "why": "mask /payer/phone, drop /card/cvv"}],
        }
    ]
    labels = {"direction": "request", "route": "pay", "action": "drop"}
    assert registry.get_sample_value("paymesh_ext_proc_sanitized_total", labels) == 1


@pytest.mark.parametrize("body", [b"", b'{"payer":{}}'])
def test_nothing_to_sanitise_goes_on_unchanged(stream: ProcessingStream, body: bytes) -> None:
    assert only(stream.process(RequestBody(ALLOWED, body))) == Continue(Phase.REQUEST_BODY)


@pytest.mark.parametrize(
    ("checked", "body", "code"),
    [
        (None, BODY, "unavailable"),
        (replace(ALLOWED, decision="deny"), BODY, "unavailable"),
        (replace(ALLOWED, decision=""), BODY, "unavailable"),
        (replace(ALLOWED, route="gone"), BODY, "unavailable"),
        (replace(ALLOWED, route=""), BODY, "unavailable"),
        (replace(ALLOWED, route="notify"), BODY, "unavailable"),
        (ALLOWED, b"not json", "unavailable"),
        (replace(ALLOWED, content_type="application/octet-stream"), BODY, "unavailable"),
        (replace(ALLOWED, route="wechat"), b'{"a":1,"a":2}', "SYSTEM_ERROR"),
    ],
)
def test_a_body_that_cannot_be_sanitised_goes_no_further(
    stream: ProcessingStream, registry: CollectorRegistry, checked: Checked | None, body: bytes, code: str
) -> None:
    reply = only(stream.process(RequestBody(checked, body)))
    assert isinstance(reply, Answer)
    assert reply.refusal.status == 503
    assert ("x-pay-reason", "unavailable") in reply.refusal.headers
    assert json.loads(reply.refusal.body)["code"] == code
    assert registry.get_sample_value("paymesh_ext_proc_errors_total", {"phase": "request_body"}) == 1


def test_refusals_are_signed_and_named_as_their_sdk_expects(stream: ProcessingStream) -> None:
    reply = only(stream.process(RequestBody(replace(ALLOWED, route="alipay"), b"not json")))
    assert isinstance(reply, Answer)
    assert reply.refusal.status == 200
    answer = json.loads(reply.refusal.body)
    assert list(answer) == ["alipay_trade_pay_response", "sign"]


def test_a_bug_while_sanitising_is_a_503_and_its_text_is_not_logged(
    stream: ProcessingStream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("13812341234")

    monkeypatch.setattr(sanitizing, "sanitize_body", broken)
    assert isinstance(only(stream.process(RequestBody(ALLOWED, BODY))), Answer)
    (fields,) = logged(caplog, "sanitized")
    assert "KeyError" in str(fields)
    assert "13812341234" not in str(fields)


def test_a_response_body_that_fits_is_asked_for_and_read(
    stream: ProcessingStream, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert only(stream.process(headers(200))) == AskForResponseBody()
    reply = only(stream.process(ResponseBody(ALLOWED, b'{"status":"SUCCEEDED"}')))
    assert reply == Continue(Phase.RESPONSE_BODY, Outcome.SUCCEEDED)
    assert logged(caplog, "outcome") == [
        {
            "request_id": "r-1",
            "route": "pay",
            "channel": "card",
            "outcome": "succeeded",
            "fault": "none",
            "why": "status is SUCCEEDED",
            "steps": [{"step": "observe", "verdict": "succeeded", "why": "status is SUCCEEDED"}],
        }
    ]
    labels = {"route": "pay", "channel": "card", "outcome": "succeeded"}
    assert registry.get_sample_value("paymesh_ext_proc_outcomes_total", labels) == 1
    stream.close()
    assert len(logged(caplog, "outcome")) == 1


@pytest.mark.parametrize(
    ("message", "outcome", "fault"),
    [
        (headers(200, {"content-type": "application/json"}), Outcome.UNKNOWN, Fault.CHANNEL),
        (headers(200, JSON | {"content-length": "65537"}), Outcome.UNKNOWN, Fault.CHANNEL),
        (headers(200, JSON | {"content-length": "9" * 5000}), Outcome.UNKNOWN, Fault.CHANNEL),
        (headers(200, JSON | {"content-length": "-1"}), Outcome.UNKNOWN, Fault.CHANNEL),
        (headers(200, JSON | {"content-encoding": "gzip"}), Outcome.UNKNOWN, Fault.CHANNEL),
        (headers(200, JSON | {"content-type": "text/html"}), Outcome.UNKNOWN, Fault.CHANNEL),
        (headers(200, ends=True), Outcome.UNKNOWN, Fault.CHANNEL),
        (headers(204, {}, ends=True), Outcome.UNKNOWN, Fault.CHANNEL),
        (headers(200, HTML, checked=replace(ALLOWED, route="wechat")), Outcome.UNKNOWN, Fault.CHANNEL),
        (headers(200, JSON | {"content-type": "a"}, checked=TO_ALIPAY), Outcome.UNKNOWN, Fault.CHANNEL),
        (headers(402), Outcome.REFUSED, Fault.PAYER),
        (headers(503), Outcome.UNKNOWN, Fault.CHANNEL),
        (headers(200, checked=replace(ALLOWED, route="gone")), Outcome.UNKNOWN, Fault.NONE),
        (ResponseHeaders(ALLOWED, {}, False), Outcome.UNKNOWN, Fault.NONE),
        (ResponseHeaders(ALLOWED, {":status": "abc"}, False), Outcome.UNKNOWN, Fault.NONE),
    ],
)
def test_the_headers_decide(
    stream: ProcessingStream, message: ResponseHeaders, outcome: Outcome, fault: Fault, registry: CollectorRegistry
) -> None:
    assert only(stream.process(message)) == Continue(Phase.RESPONSE_HEADERS, outcome, fault)
    checked = message.checked
    assert checked is not None
    labels = {"route": checked.route, "channel": "card", "fault": fault.value}
    counted = registry.get_sample_value("paymesh_ext_proc_faults_total", labels)
    assert counted == (None if fault is Fault.NONE else 1)


@pytest.mark.parametrize(
    ("more", "body"),
    [
        ({"content-type": "text/html;charset=utf-8"}, TOO_LITTLE),
        ({"content-type": "text/html;charset=GBK"}, TOO_LITTLE.decode().encode("gbk")),
        ({"content-type": "application/json"}, TOO_LITTLE),
    ],
)
def test_a_body_is_read_as_its_protocol_types_it(stream: ProcessingStream, more: dict[str, str], body: bytes) -> None:
    first = headers(200, {**more, "content-length": str(len(body))}, checked=TO_ALIPAY)
    assert only(stream.process(first)) == AskForResponseBody()
    expected = Continue(Phase.RESPONSE_BODY, Outcome.REFUSED, Fault.PAYER)
    assert only(stream.process(ResponseBody(TO_ALIPAY, body))) == expected


@pytest.mark.parametrize(
    "checked", [None, Checked(), replace(ALLOWED, decision="deny"), replace(ALLOWED, route="notify")]
)
def test_what_is_not_observed_passes(
    stream: ProcessingStream, checked: Checked | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert only(stream.process(headers(200, checked=checked))) == Continue(Phase.RESPONSE_HEADERS)
    assert only(stream.process(ResponseBody(checked, b"{}"))) == Continue(Phase.RESPONSE_BODY)
    assert not caplog.records


@pytest.mark.parametrize("broken_call", ["read_status", "read_outcome"])
def test_a_bug_while_observing_leaves_the_response_alone(
    stream: ProcessingStream, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, broken_call: str
) -> None:
    def broken(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(observing, broken_call, broken)
    reply = only(stream.process(headers(200)))
    if broken_call == "read_outcome":
        assert reply == AskForResponseBody()
        reply = only(stream.process(ResponseBody(ALLOWED, b'{"status":"SUCCEEDED"}')))
    assert isinstance(reply, Continue)
    assert reply.outcome is Outcome.UNKNOWN
    assert registry.get_sample_value("paymesh_ext_proc_errors_total", {"phase": reply.phase.value}) == 1


def test_a_body_that_never_comes_is_unknown(stream: ProcessingStream, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stream.process(headers(200))
    stream.close()
    stream.close()
    assert [fields["outcome"] for fields in logged(caplog, "outcome")] == ["unknown"]


def test_trailers_that_nobody_asked_for_pass(stream: ProcessingStream) -> None:
    assert only(stream.process(ResponseTrailers(ALLOWED))) == Continue(Phase.RESPONSE_TRAILERS)


@pytest.mark.parametrize("phase", [Phase.REQUEST_HEADERS, Phase.REQUEST_TRAILERS], ids=lambda phase: phase.value)
def test_messages_nobody_asked_for_pass(stream: ProcessingStream, phase: Phase) -> None:
    assert only(stream.process(Unasked(ALLOWED, phase))) == Continue(phase)
