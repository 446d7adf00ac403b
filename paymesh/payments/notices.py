"""Owns what a provider's notification says about an order, and whether it is the order that was begun here.

Source of the rule: protocols.md section 1 (order number, amount, app and seller must be those of the order). Refuses a
notification that leaves one of them out: an amount that nobody states cannot be the right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paymesh.payments.denial import Denial, Reason
from paymesh.payments.fields.facts import OrderFacts, read_facts
from paymesh.payments.orders import OrderTerms, Settled
from paymesh.payments.policy.compiled import AmountNotation, Fields, Protocol


@dataclass(frozen=True, slots=True)
class _Shape:
    fields: Fields
    app_id: str | None
    seller_id: str


_SHAPES: Mapping[Protocol, _Shape] = {
    Protocol.WECHAT_NOTIFICATION: _Shape(
        Fields(order_no=("out_trade_no",), amount=("amount", "total"), currency=("amount", "currency")),
        app_id="appid",
        seller_id="mchid",
    ),
    Protocol.ALIPAY_NOTIFICATION: _Shape(
        Fields(order_no=("out_trade_no",), amount=("total_amount",), amount_notation=AmountNotation.DECIMAL_TEXT),
        app_id="app_id",
        seller_id="seller_id",
    ),
    Protocol.UNIONPAY_NOTIFICATION: _Shape(
        Fields(
            order_no=("orderId",),
            amount=("txnAmt",),
            currency=("currencyCode",),
            amount_notation=AmountNotation.MINOR_UNITS_TEXT,
        ),
        app_id=None,
        seller_id="merId",
    ),
}
_UNIONPAY_REFUND = "04"
_UNIONPAY_PAYMENT = "01"
_UNIONPAY_SUCCESS = ("00", "A6")
"""A6: succeeded with a flaw, which is money moved all the same."""
_SETTLED: Mapping[str, Settled] = {
    "SUCCESS": Settled.PAID,
    "REFUND": Settled.PAID,
    "CLOSED": Settled.CLOSED,
    "REVOKED": Settled.CLOSED,
    "TRADE_SUCCESS": Settled.PAID,
    "TRADE_FINISHED": Settled.PAID,
    # Also said after a full refund: then PAID stands already, and stays.
    "TRADE_CLOSED": Settled.CLOSED,
}
"""WeChat Pay's trade_state and Alipay's trade_status."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is notified. `order_keys`: where the order may stand in the order store, the first one found holds."""

    facts: OrderFacts
    seller_id: str | None
    order_keys: tuple[str, ...]
    settled: Settled | None = None
    """What it says for certain of the payment."""


def read_notice(protocol: Protocol, document: object) -> Notice | Denial:
    """The notification's own facts, or the first one that is missing or not valid."""
    shape = _SHAPES[protocol]
    facts = read_facts(shape.fields, document)
    if isinstance(facts, Denial):
        return facts
    assert isinstance(document, Mapping)  # a scheme gives nothing else
    app_id = _text(document, shape.app_id) if shape.app_id is not None else None
    seller_id = _text(document, shape.seller_id)
    if seller_id is None and protocol is Protocol.WECHAT_NOTIFICATION:
        app_id, seller_id = _text(document, "sp_appid"), _text(document, "sp_mchid")
    assert facts.order_no is not None  # every shape has one
    operations = ("refund",) if document.get("txnType") == _UNIONPAY_REFUND else ("pay",)
    keys = tuple(order_key(operation, facts.order_no) for operation in operations)
    return Notice(OrderFacts(facts.order_no, facts.money, None, app_id), seller_id, keys, _settled(protocol, document))


def _settled(protocol: Protocol, document: Mapping[str, object]) -> Settled | None:
    """Of a payment; a refund's notification settles nothing. Sources: as in `outcome.py`, and Alipay "asynchronous
    notification" (trade_status), UnionPay "response codes"."""
    if protocol is Protocol.UNIONPAY_NOTIFICATION:
        paid = document.get("txnType") == _UNIONPAY_PAYMENT and document.get("respCode") in _UNIONPAY_SUCCESS
        return Settled.PAID if paid else None
    name = "trade_state" if protocol is Protocol.WECHAT_NOTIFICATION else "trade_status"
    state = document.get(name)
    return _SETTLED.get(state) if isinstance(state, str) else None


def order_key(operation: str, order_no: str) -> str:
    """Where an order stands in the order store, beside its merchant's id."""
    return f"{operation}:{order_no}"


def mismatch(terms: OrderTerms, notice: Notice) -> Denial | None:
    """Why a notification is not about the order that was begun; None if it is."""
    money = notice.facts.money
    assert money is not None  # every shape has one
    wrong = [
        name
        for name, ordered, notified in (
            ("amount", terms.amount, money.amount),
            ("currency", terms.currency, money.currency),
            ("app_id", terms.app_id, notice.facts.app_id),
            ("seller_id", terms.seller_id, notice.seller_id),
        )
        # An order without a term has nothing to compare, except its seller: money must go to somebody known.
        if (ordered is not None or (name == "seller_id" and notified is not None)) and ordered != notified
    ]
    if not wrong:
        return None
    return Denial(Reason.ORDER_MISMATCH, f"{', '.join(wrong)} not as ordered")


def _text(document: Mapping[str, object], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) and value else None
