"""Owns reading the facts of a payment out of a parsed body. Refuses guesses: a wrong type is a Denial."""

from __future__ import annotations

import re
from dataclasses import dataclass

from paymesh.payments.bodies.json_body import MISSING, lookup
from paymesh.payments.bodies.pointer import JsonPointer, show_pointer
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.money import Money, alphabetic_code, minor_units_of_decimal, minor_units_of_digits
from paymesh.payments.policy.compiled import AmountNotation, Fields

_ORDER_NO = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)
_PRODUCT = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """What is decided on. Each is None where the route's body has no such fact."""

    order_no: str | None = None
    money: Money | None = None
    product: str | None = None
    app_id: str | None = None


def read_facts(fields: Fields, value: object) -> OrderFacts | Denial:
    """The facts in a parsed JSON body, or the first field that is missing or not valid."""
    for pointer in fields.required:
        if lookup(value, pointer) in (MISSING, None):
            return _field_invalid(pointer, "is required")
    order_no: str | None = None
    money: Money | None = None
    if fields.order_no is not None:
        places = (fields.order_no, *fields.order_no_otherwise)
        found = next((there for place in places if (there := lookup(value, place)) is not MISSING), MISSING)
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
    app_id: str | None = None
    if fields.app_id is not None:
        found = lookup(value, fields.app_id)
        if not isinstance(found, str) or not _ORDER_NO.fullmatch(found):
            return _field_invalid(fields.app_id, "is not an app id")
        app_id = found
    for place in fields.app_id_if_there if app_id is None else ():
        found = lookup(value, place)
        if isinstance(found, str) and _ORDER_NO.fullmatch(found):
            app_id = found
            break
    return OrderFacts(order_no, money, product, app_id)


def _read_money(fields: Fields, pointer: JsonPointer, value: object) -> Money | Denial:
    currency = MISSING if fields.currency is None else lookup(value, fields.currency)
    if currency is MISSING:
        currency = fields.default_currency
    if not isinstance(currency, str):
        return _field_invalid(fields.currency or pointer, "is not a currency code")
    currency = alphabetic_code(currency)
    try:
        return Money(_minor_units(fields.amount_notation, lookup(value, pointer), currency), currency)
    except ValueError as error:
        wrong = fields.currency if fields.currency is not None and "currency" in str(error) else pointer
        return _field_invalid(wrong, str(error))


def _minor_units(notation: AmountNotation, amount: object, currency: str) -> int:
    if notation is AmountNotation.MINOR_UNITS:
        return amount  # type: ignore[return-value]  # Money refuses whatever is no int
    if not isinstance(amount, str):
        raise ValueError("an amount is a text here")  # noqa: TRY004 - one error kind for callers
    if notation is AmountNotation.MINOR_UNITS_TEXT:
        return minor_units_of_digits(amount)
    return minor_units_of_decimal(amount, currency)


def _field_invalid(pointer: JsonPointer, why: str) -> Denial:
    problem = f"{show_pointer(pointer)} {why}"
    return Denial(Reason.FIELD_INVALID, problem, told=(problem,))
