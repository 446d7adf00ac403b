"""Owns Fifth Bank as a channel: JSON over POST, both sides signing with HMAC-SHA256 over `time.body`. An example.

Refuses an answer that is not signed with the shared secret within five minutes. The bank is invented: this file is what
docs/adding-a-channel.md shows, and all that a channel of one's own needs beside its policy.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass

from paymesh.payments.adapters.contract import (
    Capabilities,
    ChannelAnswer,
    ChannelIdentity,
    Expected,
    GenericClose,
    GenericOrder,
    GenericQuery,
    GenericRefund,
    Stamp,
    UpstreamRequest,
    answer,
    lacking,
    required,
    unanswered,
)
from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.denial import Denial
from paymesh.payments.outcome import Fault, Outcome, Reading
from paymesh.payments.policy.compiled import Operation

WINDOW_S = 300
CURRENCIES = frozenset({"CNY", "HKD"})
_READINGS = {
    "WAITING": Reading(Outcome.ACCEPTED, "the order waits for its payer", Fault.NONE),
    "PAID": Reading(Outcome.SUCCEEDED, "paid", Fault.NONE),
    "RETURNED": Reading(Outcome.SUCCEEDED, "the refund is done", Fault.NONE),
    "CLOSED": Reading(Outcome.REFUSED, "closed before it was paid", Fault.PAYER),
    "REFUSED": Reading(Outcome.REFUSED, "the bank refuses the request", Fault.MERCHANT),
}


@dataclass(frozen=True, slots=True)
class FifthBank:
    name: str = "fifth_bank"
    capabilities: Capabilities = Capabilities(  # noqa: RUF009 - frozen
        frozenset({Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE}), {"qr": "code"}, CURRENCIES
    )

    def identity_problems(self, identity: ChannelIdentity) -> tuple[str, ...]:
        return required(account=bool(identity.account), secret=identity.secret is not None)

    def problems(self, order: GenericOrder, identity: ChannelIdentity) -> tuple[str, ...]:
        return _problems(order.order_no, order.money.currency, order.product)

    def write_pay(self, order: GenericOrder, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = self.problems(order, identity)
        told = {"amount": order.money.amount, "currency": order.money.currency, "title": order.subject}
        return lacking(problems) if problems else _call("pay", order.order_no, told, identity, stamp)

    def write_query(self, query: GenericQuery, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = _problems(query.order_no)
        return lacking(problems) if problems else _call("query", query.order_no, {}, identity, stamp)

    def write_refund(self, refund: GenericRefund, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = _problems(refund.order_no, refund.money.currency)
        told = {"amount": refund.money.amount, "refund": refund.refund_no}
        return lacking(problems) if problems else _call("refund", refund.order_no, told, identity, stamp)

    def write_close(self, close: GenericClose, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial:
        problems = _problems(close.order_no)
        return lacking(problems) if problems else _call("close", close.order_no, {}, identity, stamp)

    def read_answer(
        self,
        expected: Expected,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        identity: ChannelIdentity,
        stamp: Stamp,
    ) -> ChannelAnswer:
        at = headers.get("x-bank-time", "")
        if not at.isdecimal() or abs(stamp.now_s - int(at)) > WINDOW_S or identity.secret is None:
            return unanswered(expected, f"{status}, but the answer is not signed")
        ours = signature(identity.secret.reveal(), at, body)
        if not hmac.compare_digest(ours.encode(), headers.get("x-bank-signature", "").encode()):
            return unanswered(expected, f"{status}, but the answer is not signed by the bank")
        try:
            told = parse_json(body, object_only=True).value
        except BodyError as error:
            return unanswered(expected, f"{status}, but the body is not readable ({error.kind})")
        assert isinstance(told, dict)  # object_only
        if told.get("order") != expected.order_no or told.get("refund") != expected.refund_no:
            return unanswered(expected, "the answer is about another order")
        if expected.money is not None and told.get("amount", expected.money.amount) != expected.money.amount:
            return unanswered(expected, "the answer tells another amount")
        return answer(expected, _reading(expected, told), **_told(expected, told))


ADAPTER = FifthBank()


def signature(secret: bytes, at: str, body: bytes) -> str:
    """Lower-case hex; `at` Unix seconds as they are written."""
    return hmac.new(secret, f"{at}.".encode() + body, "sha256").hexdigest()


def _reading(expected: Expected, told: Mapping[str, object]) -> Reading:
    state = told.get("state")
    reading = _READINGS.get(state) if isinstance(state, str) else None
    if expected.operation is Operation.CLOSE and state == "CLOSED":
        return Reading(Outcome.SUCCEEDED, "closed", Fault.NONE)
    if reading is None or (expected.operation is Operation.QUERY and state == "REFUSED"):
        return Reading(Outcome.UNKNOWN, "no known state", Fault.CHANNEL)
    return reading


def _told(expected: Expected, told: Mapping[str, object]) -> dict[str, object]:
    queried = expected.operation is Operation.QUERY and "amount" in told
    return {
        "code_url": told.get("code"),
        "channel_order_no": told.get("number"),
        "amount": {"total": told["amount"], "currency": told.get("currency")} if queried else None,
        "code": told.get("error"),
        "message": told.get("message"),
    }


def _call(
    operation: str, order_no: str, told: Mapping[str, object], identity: ChannelIdentity, stamp: Stamp
) -> UpstreamRequest:
    assert identity.secret is not None  # refused at load
    body = json.dumps({"shop": identity.account, "order": order_no, **told}, ensure_ascii=False).encode()
    at = str(stamp.now_s)
    headers = {
        "content-type": "application/json",
        "x-bank-time": at,
        "x-bank-signature": signature(identity.secret.reveal(), at, body),
    }
    return UpstreamRequest("POST", f"/bank/{operation}", headers, body)


def _problems(order_no: str, currency: str = "CNY", product: str | None = "qr") -> tuple[str, ...]:
    found = []
    if not order_no.isalnum():
        found.append("/order_no: Fifth Bank takes letters and digits")
    if currency not in CURRENCIES:
        found.append("/amount/currency: this channel takes CNY and HKD")
    if product != "qr":
        found.append("/product: is none of qr")
    return tuple(found)
