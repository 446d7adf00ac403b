"""Owns reading the facts of a payment out of a parsed body. Refuses guesses: a wrong type is a Denial."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from paymesh.payments.denial import Denial, Reason
from paymesh.payments.json_body import MISSING, lookup
from paymesh.payments.money import Money
from paymesh.payments.policy.compiled import Fields, JsonPointer

_ORDER_NO = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)
_PRODUCT = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """What is decided on. Each is None where the route's body has no such fact."""

    order_no: str | None = None
    money: Money | None = None
    product: str | None = None


def read_facts(fields: Fields, value: object) -> OrderFacts | Denial:
    """The facts in a parsed JSON body, or the first field that is missing or not valid."""
    for pointer in fields.required:
        if lookup(value, pointer) in (MISSING, None):
            return _field_invalid(pointer, "is required")
    order_no: str | None = None
    money: Money | None = None
    if fields.order_no is not None:
        found = lookup(value, fields.order_no)
        if not isinstance(found, str) or not _ORDER_NO.fullmatch(found):
            return _field_invalid(fields.order_no, "is not an order number of 1 to 64 printable characters")
        order_no = found
    product = fields.fixed_product
    if fields.product is not None:
        found = lookup(value, fields.product)
        if not isinstance(found, str) or not _PRODUCT.fullmatch(found):
            return _field_invalid(fields.product, "is not a product name")
        product = found
    if fields.amount is not None:
        money_or_denial = _read_money(fields, fields.amount, value)
        if isinstance(money_or_denial, Denial):
            return money_or_denial
        money = money_or_denial
    return OrderFacts(order_no, money, product)


def _read_money(fields: Fields, pointer: JsonPointer, value: object) -> Money | Denial:
    currency = MISSING if fields.currency is None else lookup(value, fields.currency)
    if currency is MISSING:
        currency = fields.default_currency
    amount = lookup(value, pointer)
    if not isinstance(currency, str):
        return _field_invalid(fields.currency or pointer, "is not a currency code")
    try:
        return Money(amount, currency)  # type: ignore[arg-type]  # Money refuses whatever is no int
    except ValueError as error:
        wrong = fields.currency if fields.currency is not None and "currency" in str(error) else pointer
        return _field_invalid(wrong, str(error))


def notice_facts(notice: Mapping[str, object]) -> OrderFacts | Denial:
    """The facts of a decrypted WeChat Pay v3 transaction notification."""
    return read_facts(Fields(order_no=("out_trade_no",)), notice)


def _field_invalid(pointer: JsonPointer, why: str) -> Denial:
    shown = "/" + "/".join(pointer)
    return Denial(Reason.FIELD_INVALID, f"{shown} {why}", field=shown)
