"""Owns reading what an adapter needs out of a generic merchant's JSON, beside the facts that were decided on.

Number, amount and product come from the route's own fields (`OrderFacts`), so that what is sent on is what was checked.
Refuses a member of the wrong type; what is missing is the adapter's to say, for it depends on the product.
"""

from __future__ import annotations

import datetime

from paymesh.payments.adapters.contract import GenericOrder, GenericRefund, lacking
from paymesh.payments.bodies.json_body import MISSING, lookup
from paymesh.payments.bodies.pointer import JsonPointer, show_pointer
from paymesh.payments.denial import Denial
from paymesh.payments.fields.facts import OrderFacts
from paymesh.payments.money import Money
from paymesh.payments.secrets import Secret

MAX_TEXT_CHARS = 512
_SUBJECT: JsonPointer = ("subject",)
_NOTIFY_URL: JsonPointer = ("notify_url",)
_AUTH_CODE: JsonPointer = ("auth_code",)
_PAYER_ID: JsonPointer = ("payer", "id")
_EXPIRES_AT: JsonPointer = ("expires_at",)
_REASON: JsonPointer = ("reason",)
_CHANNEL_ORDER_NO: JsonPointer = ("channel_order_no",)


def read_order(document: object, facts: OrderFacts, begun_at_s: int, client_ip: str) -> GenericOrder | Denial:
    """The order, or every member that is wrong. `begun_at_s`: of its first attempt, Unix seconds."""
    reader = _Reader(document)
    order_no, money = reader.known(facts)
    expires_at_s = reader.moment(_EXPIRES_AT)
    auth_code, payer_id = reader.text(_AUTH_CODE), reader.text(_PAYER_ID)
    subject, notify_url = reader.text(_SUBJECT), reader.text(_NOTIFY_URL)
    if reader.problems or order_no is None or money is None:
        return lacking(tuple(reader.problems))
    return GenericOrder(
        order_no=order_no,
        money=money,
        product=facts.product,
        begun_at_s=begun_at_s,
        subject=subject,
        notify_url=notify_url,
        client_ip=client_ip,
        expires_at_s=expires_at_s,
        auth_code=Secret(auth_code.encode()) if auth_code else None,
        payer_id=Secret(payer_id.encode()) if payer_id else None,
    )


def read_refund(document: object, facts: OrderFacts, begun_at_s: int, paid: Money | None) -> GenericRefund | Denial:
    """A refund, or every member that is wrong. Its amount and number are the route's `amount` and `order_no`, the
    payment's number its `original_order_no`; the channel's own number of the payment is the merchant's to tell."""
    reader = _Reader(document)
    refund_no, money = reader.known(facts)
    reason, notify_url = reader.text(_REASON), reader.text(_NOTIFY_URL)
    channel_order_no = reader.text(_CHANNEL_ORDER_NO) or None
    if facts.original_order_no is None:
        reader.problems.append("the payment's order number: is required")
    if reader.problems or refund_no is None or money is None or facts.original_order_no is None:
        return lacking(tuple(reader.problems))
    number = facts.original_order_no
    return GenericRefund(number, refund_no, money, paid, begun_at_s, channel_order_no, reason, notify_url)


def read_channel_order_no(document: object) -> str | Denial | None:
    """The channel's own number of the payment, if the merchant tells it."""
    reader = _Reader(document)
    found = reader.text(_CHANNEL_ORDER_NO) or None
    return lacking(tuple(reader.problems)) if reader.problems else found


class _Reader:
    def __init__(self, document: object) -> None:
        self._document = document
        self.problems: list[str] = []

    def known(self, facts: OrderFacts) -> tuple[str | None, Money | None]:
        if facts.order_no is None:
            self.problems.append("/order_no: is required")
        if facts.money is None:
            self.problems.append("/amount: is required")
        return facts.order_no, facts.money

    def text(self, pointer: JsonPointer) -> str:
        found = lookup(self._document, pointer)
        if found is MISSING or found is None:
            return ""
        if isinstance(found, str) and len(found) <= MAX_TEXT_CHARS and found.isprintable():
            return found
        self.problems.append(f"{show_pointer(pointer)}: is no text of at most {MAX_TEXT_CHARS} printable characters")
        return ""

    def moment(self, pointer: JsonPointer) -> int | None:
        """Unix seconds of a date and time with its offset (RFC 3339)."""
        written = self.text(pointer)
        if not written:
            return None
        try:
            found = datetime.datetime.fromisoformat(written)
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            self.problems.append(f"{show_pointer(pointer)}: is no date and time with an offset (RFC 3339)")
            return None
        return int(found.timestamp())
