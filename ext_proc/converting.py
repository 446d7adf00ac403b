"""Owns writing a generic request as its channel's own, and reading the channel's answer as a generic one.

Refuses to let the merchant's own message reach a provider: what cannot be written is answered here, and nothing was
sent. What was decided on is read again from the message, by the same rules, so that what is sent is what was checked.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ext_proc.messages import (
    Answer,
    Checked,
    Continue,
    Phase,
    ReplaceRequest,
    Reply,
    RequestBody,
    RequestHeaders,
)
from ext_proc.record import Record
from ext_proc.sanitizing import addressee
from paymesh.payments.adapters.adapted import AdaptedChannel
from paymesh.payments.adapters.contract import (
    ChannelAnswer,
    Expected,
    GenericClose,
    GenericOrder,
    GenericQuery,
    GenericRefund,
    Stamp,
    UpstreamRequest,
)
from paymesh.payments.adapters.generic_order import read_channel_order_no, read_order, read_refund
from paymesh.payments.bodies.body import read_body, read_query
from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.fields.facts import OrderFacts, read_facts
from paymesh.payments.fields.rules import Message
from paymesh.payments.fields.sanitize_head import path_segments
from paymesh.payments.internal_names import DECISION_ALLOW
from paymesh.payments.policy.compiled import Operation, Policy, Route
from paymesh.payments.refusals import write_refusal
from paymesh.server.logs import describe_error

_KEPT = frozenset({"x-request-id", "x-forwarded-proto"})
"""Of the merchant's headers: Envoy itself goes by them. All others are not the provider's affair."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """What makes a signature fresh."""

    now_s: Callable[[], int]
    """Unix seconds."""
    nonce: Callable[[], str]


SYSTEM_FRESHNESS = Freshness(lambda: int(time.time()), lambda: secrets.token_hex(16))

_Asked = GenericOrder | GenericQuery | GenericRefund | GenericClose


@dataclass(frozen=True, slots=True)
class _Asking:
    """What was sent, as far as its answer is read by it. The numbers are the merchant's own."""

    channel: AdaptedChannel
    expected: Expected
    order_no: str
    refund_no: str | None


class Converter:
    """Converts one exchange. Without a call of `headers` it does nothing."""

    def __init__(self, policy: Policy, record: Record, freshness: Freshness) -> None:
        self._policy = policy
        self._record = record
        self._freshness = freshness
        self._headers: RequestHeaders | None = None
        self._asking: _Asking | None = None

    @property
    def begun(self) -> bool:
        """Whether the request's headers came, so that its body is for here."""
        return self._headers is not None

    @property
    def asked(self) -> bool:
        """Whether a provider was asked in its own words."""
        return self._asking is not None

    def headers(self, message: RequestHeaders) -> Reply:
        self._headers = message
        return self._convert(message, b"", Phase.REQUEST_HEADERS) if message.ends else Continue(Phase.REQUEST_HEADERS)

    def body(self, message: RequestBody) -> Reply:
        assert self._headers is not None  # `begun`
        return self._convert(self._headers, message.body, Phase.REQUEST_BODY)

    def read(self, status: int, headers: Mapping[str, str], body: bytes, now_s: int) -> ChannelAnswer:
        """The provider's answer, under the merchant's own numbers. Only if `asked`."""
        asking = self._asking
        assert asking is not None
        adapter, identity = asking.channel.adapter, asking.channel.identity
        stamp = Stamp(now_s, self._freshness.nonce())
        said = adapter.read_answer(asking.expected, status, headers, body, identity, stamp)
        own: dict[str, object] = {"order_no": asking.order_no}
        if asking.refund_no is not None:
            own["refund_no"] = asking.refund_no
        return replace(said, document={**said.document, **own})

    def _convert(self, head: RequestHeaders, body: bytes, phase: Phase) -> Reply:
        checked = head.checked
        if checked is None or checked.decision != DECISION_ALLOW:
            return self._refuse(checked, None, Denial(Reason.UNAVAILABLE, "no permission came with the request"))
        route = self._policy.routes_by_name.get(checked.route)
        channel = self._policy.adapted.get(checked.channel)
        if route is None or channel is None or checked.begun_at_s is None:
            # Envoy and ext_authz have a policy that we have not yet, or no more.
            return self._refuse(checked, route, Denial(Reason.UNAVAILABLE, "the policy has no such route or channel"))
        try:
            written = self._write(head, body, checked, checked.begun_at_s, route, channel)
        except BodyError as error:
            written = Denial(Reason.UNAVAILABLE, f"the body is not readable ({error.kind})")
        except Exception as error:  # closed: half a message must not leave
            written = Denial(Reason.UNAVAILABLE, describe_error(error))
        if isinstance(written, Denial):
            return self._refuse(checked, route, written)
        kept = (name for name in head.headers if not name.startswith((":", "x-envoy-")) and name not in _KEPT)
        pseudo = [(":method", written.method), (":path", written.target)]
        if channel.host:
            pseudo.append((":authority", channel.host))
        set_ = (*pseudo, *written.headers.items())
        return ReplaceRequest(phase, set_, tuple(name for name in kept if name not in written.headers), written.body)

    def _write(
        self,
        head: RequestHeaders,
        body: bytes,
        checked: Checked,
        begun_at_s: int,
        route: Route,
        channel: AdaptedChannel,
    ) -> UpstreamRequest | Denial:
        document = None
        if body:
            document = read_body(body, head.headers.get("content-type"), route.request_reading).value
        facts = _facts(route, head.headers.get(":path", ""), document)
        if isinstance(facts, Denial):
            return facts
        merchant = self._policy.merchants.get(checked.merchant)
        prefix = "" if merchant is None else merchant.order_no_prefix
        asked = _asked(route, document, _prefixed(facts, prefix), checked, begun_at_s, head.client_ip)
        if isinstance(asked, Denial):
            return asked
        stamp = Stamp(self._freshness.now_s(), self._freshness.nonce())
        written = _written(channel, asked, stamp)
        if not isinstance(written, Denial):
            refunds = route.operation is Operation.REFUND
            order_no = (facts.original_order_no if refunds else facts.order_no) or ""
            refund_no = facts.order_no if refunds else None
            self._asking = _Asking(channel, asked.expected(checked.channel), order_no, refund_no)
        return written

    def _refuse(self, checked: Checked | None, route: Route | None, denial: Denial) -> Answer:
        self._record.not_converted(checked, denial)
        return Answer(write_refusal(denial, addressee(self._policy, checked, route)))


def _facts(route: Route, target: str, document: object) -> OrderFacts | Denial:
    path, _, query = target.partition("?")
    parameters = read_query(query, route.request_reading).value if query else {}
    assert isinstance(parameters, dict)  # a query is parameters
    message = Message(body=document, query=parameters, path=path_segments(path, route.match.path))
    return read_facts(
        route.fields,
        document,
        message.part(route.fields.order_no_place),
        message.part(route.fields.original_order_no_place),
    )


def _prefixed(facts: OrderFacts, prefix: str) -> OrderFacts:
    def number(given: str | None) -> str | None:
        return None if given is None else prefix + given

    if not prefix:
        return facts
    return replace(facts, order_no=number(facts.order_no), original_order_no=number(facts.original_order_no))


def _asked(
    route: Route, document: object, facts: OrderFacts, checked: Checked, begun_at_s: int, client_ip: str
) -> _Asked | Denial:
    if route.operation is Operation.PAY:
        return read_order(document, facts, begun_at_s, client_ip)
    if route.operation is Operation.REFUND:
        return read_refund(document, facts, begun_at_s, checked.ordered)
    if facts.order_no is None:
        return Denial(Reason.UNAVAILABLE, "no order number")  # such routes are refused at load
    if route.operation is Operation.QUERY:
        return GenericQuery(facts.order_no, begun_at_s, checked.ordered)
    number = read_channel_order_no(document)
    if isinstance(number, Denial):
        return number
    return GenericClose(facts.order_no, begun_at_s, checked.ordered, number)


def _written(channel: AdaptedChannel, asked: _Asked, stamp: Stamp) -> UpstreamRequest | Denial:
    match asked:
        case GenericOrder():
            return channel.adapter.write_pay(asked, channel.identity, stamp)
        case GenericQuery():
            return channel.adapter.write_query(asked, channel.identity, stamp)
        case GenericRefund():
            return channel.adapter.write_refund(asked, channel.identity, stamp)
        case GenericClose():
            return channel.adapter.write_close(asked, channel.identity, stamp)
