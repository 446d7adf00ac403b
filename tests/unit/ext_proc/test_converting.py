"""A generic request becomes its channel's own, or is answered here: the merchant's message never reaches a provider."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ext_proc.converting import Freshness
from ext_proc.messages import (
    Answer,
    AnswerHeaders,
    AnswerPiece,
    Checked,
    Continue,
    Phase,
    ReplaceRequest,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
)
from ext_proc.record import Record
from ext_proc.stream import ProcessingStream
from paymesh.payments.adapters.adapted import AdaptedChannel
from paymesh.payments.adapters.contract import ChannelIdentity
from paymesh.payments.outcome import Outcome
from paymesh.payments.policy.callers import Merchant
from paymesh.payments.policy.compiled import Channel, Fields, Operation, PathKind, Policy, RouteMatch
from paymesh.payments.policy.field_rules import Place
from paymesh.payments.secrets import Secret
from tests.channels import fifth_bank
from tests.unit.ext_proc.conftest import NONCE, NOW_S, route

ORDER = {"order_no": "A1", "amount": 700, "product": "qr", "subject": "tea"}
HEAD = {":method": "POST", ":path": "/pay", "content-type": "application/json", "signature": "s", "x-request-id": "r"}


@pytest.fixture
def adapted_policy(policy: Policy) -> Policy:
    bank = Channel("bank", "trade", frozenset({Operation.PAY}), None, frozenset({"CNY"}), 1, None, 1, adapted=True)
    fields = Fields(order_no=("order_no",), amount=("amount",), product=("product",))
    pay = replace(route("pay"), fields=fields, channels=(bank,), service=None)
    query = replace(
        route("query", operation=Operation.QUERY),
        match=RouteMatch(PathKind.TEMPLATE, "/orders/{order_no}", "/orders/[^/]+", frozenset()),
        fields=Fields(order_no=("order_no",), order_no_place=Place.PATH),
        channels=(bank,),
    )
    identity = ChannelIdentity("shop-5", secret=Secret(b"s" * 32))
    return replace(
        policy,
        routes_by_name={"pay": pay, "query": query},
        adapted={"bank": AdaptedChannel(fifth_bank.ADAPTER, identity, "bank.example")},
        merchants={"m": Merchant("m", {}, order_no_prefix="77")},
    )


@pytest.fixture
def open_stream(adapted_policy: Policy, record: Record) -> Callable[[], ProcessingStream]:
    return lambda: ProcessingStream(adapted_policy, record, Freshness(lambda: NOW_S, lambda: NONCE))


def checked(name: str = "pay", **changed: Any) -> Checked:
    said = Checked("allow", name, "r", "bank", operation=name, merchant="m", begun_at_s=NOW_S)
    return replace(said, **changed)


def convert(stream: ProcessingStream, body: bytes, said: Checked | None) -> object:
    assert stream.process(RequestHeaders(said, HEAD, ends=False, streamed=True)) == (Continue(Phase.REQUEST_HEADERS),)
    (reply,) = stream.process(RequestBody(said, body))
    return reply


def test_the_providers_request_has_nothing_of_the_merchants(open_stream: Callable[[], ProcessingStream]) -> None:
    reply = convert(open_stream(), json.dumps(ORDER).encode(), checked())
    assert isinstance(reply, ReplaceRequest)
    said = json.loads(reply.body)
    assert (said["order"], said["amount"]) == ("77A1", 700)
    assert (":authority", "bank.example") in reply.set
    assert "signature" in reply.removed
    assert not {"x-request-id", ":path"} & set(reply.removed)


def test_a_request_without_a_body_may_get_one(open_stream: Callable[[], ProcessingStream]) -> None:
    headers = {**HEAD, ":method": "GET", ":path": "/orders/A1?x=1"}
    (reply,) = open_stream().process(RequestHeaders(checked("query"), headers, ends=True, streamed=True))
    assert isinstance(reply, ReplaceRequest)
    assert reply.phase is Phase.REQUEST_HEADERS
    assert json.loads(reply.body)["order"] == "77A1"


@pytest.mark.parametrize(
    ("body", "said", "status"),
    [
        (json.dumps(ORDER).encode(), None, 503),
        (json.dumps(ORDER).encode(), checked(decision="deny"), 503),
        (json.dumps(ORDER).encode(), checked("unheard-of"), 503),
        (json.dumps(ORDER).encode(), checked(channel="unheard-of"), 503),
        (json.dumps(ORDER).encode(), checked(begun_at_s=None), 503),
        (b'{"order_no": "A1", "order_no": "A2"}', checked(), 503),
        (json.dumps({**ORDER, "product": "gold"}).encode(), checked(), 400),
        (b"", checked(), 400),
    ],
)
def test_what_cannot_be_written_is_answered_here(
    open_stream: Callable[[], ProcessingStream],
    registry: CollectorRegistry,
    body: bytes,
    said: Checked | None,
    status: int,
) -> None:
    stream = open_stream()
    reply = convert(stream, body, said)
    assert isinstance(reply, Answer)
    assert reply.refusal.status == status
    assert registry.get_sample_value("paymesh_ext_proc_errors_total", {"phase": "request_headers"}) == 1
    # Envoy shows that answer, too: it is not read as a provider's.
    (passed,) = stream.process(ResponseHeaders(said, {":status": str(status)}, ends=False, streamed=True))
    assert not isinstance(passed, Answer)


def answer(stream: ProcessingStream, body: bytes, **headers: str) -> tuple[object, ...]:
    told = {":status": "200", "content-type": "application/json", "x-bank": "1", **headers}
    begun = stream.process(ResponseHeaders(checked(), told, ends=False, streamed=True, from_service=True))
    assert begun == ()
    return stream.process(ResponseBody(checked(), body))


def test_an_unsigned_answer_is_unknown_under_the_merchants_own_number(
    open_stream: Callable[[], ProcessingStream],
) -> None:
    stream = open_stream()
    convert(stream, json.dumps(ORDER).encode(), checked())
    headers, piece = answer(stream, b'{"order": "77A1", "state": "PAID"}')
    assert isinstance(headers, AnswerHeaders)
    assert isinstance(piece, AnswerPiece)
    assert headers.outcome is Outcome.UNKNOWN
    assert dict(headers.set)[":status"] == "202"
    assert "x-bank" in headers.removed
    said = json.loads(piece.body)
    assert (said["order_no"], said["status"]) == ("A1", "PENDING")


def test_envoys_own_answer_is_not_the_providers(open_stream: Callable[[], ProcessingStream]) -> None:
    stream = open_stream()
    convert(stream, json.dumps(ORDER).encode(), checked())
    passed = stream.process(ResponseHeaders(checked(), {":status": "503"}, ends=False, streamed=True))
    assert passed == (AnswerHeaders(),)
    assert stream.process(ResponseBody(checked(), b"x")) == (AnswerPiece(b"x", True),)


def test_an_answer_too_long_to_read_is_unknown_and_does_not_pass(open_stream: Callable[[], ProcessingStream]) -> None:
    stream = open_stream()
    convert(stream, json.dumps(ORDER).encode(), checked())
    (reply,) = answer(stream, b"x" * 2000)
    assert isinstance(reply, Answer)
    assert (reply.refusal.status, reply.outcome) == (504, Outcome.UNKNOWN)
