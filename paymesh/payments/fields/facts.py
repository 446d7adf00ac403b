"""Owns reading the facts of a payment out of a parsed body. Refuses guesses: a wrong type is a Denial."""

from __future__ import annotations

import re
from dataclasses import dataclass

from paymesh.payments.bodies.json_body import MISSING, lookup
from paymesh.payments.bodies.pointer import JsonPointer, show_pointer
from paymesh.payments.channels.card import Card, card_of
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.fields.kinds import ORDER_NO, problem
from paymesh.payments.fields.pan import Pan
from paymesh.payments.money import Money, alphabetic_code, minor_units_of_decimal, minor_units_of_digits
from paymesh.payments.policy.compiled import AmountNotation, Fields
from paymesh.payments.policy.field_rules import Kind, Place

_PRODUCT = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """What is decided on. Each is None where the route's body has no such fact."""

    order_no: str | None = None
    money: Money | None = None
    product: str | None = None
    app_id: str | None = None
    card: Card | None = None
    original_order_no: str | None = None
    """Of a refund: the payment's."""


def read_facts(
    fields: Fields, value: object, order_no_in: object = None, original_in: object = None
) -> OrderFacts | Denial:
    """The facts in a parsed body, or a Denial that names every field that is missing or not valid.

    `order_no_in`, `original_in`: where the order numbers stand if not in the body (`order_no_place`).
    """
    problems = [
        f"{show_pointer(pointer)} is required"
        for pointer in fields.required
        if lookup(value, pointer) in (MISSING, None)
    ]
    reader = _Reader(value, problems)
    facts = OrderFacts(
        order_no=_order_no(
            (fields.order_no, *fields.order_no_otherwise),
            value if fields.order_no_place is Place.BODY else order_no_in,
            problems,
        ),
        original_order_no=_order_no(
            (fields.original_order_no,),
            value if fields.original_order_no_place is Place.BODY else original_in,
            problems,
        ),
        money=None if fields.amount is None else reader.money(fields, fields.amount),
        product=fields.fixed_product
        if fields.product is None
        else reader.text(fields.product, _PRODUCT, "is not a product name"),
        app_id=reader.app_id(fields),
        card=None if fields.card_no is None and fields.card_type is None else reader.card(fields),
    )
    if problems:
        problems = list(dict.fromkeys(problems))
        return Denial(Reason.FIELD_INVALID, "; ".join(problems), told=tuple(problems))
    return facts


def _order_no(pointers: tuple[JsonPointer | None, ...], value: object, problems: list[str]) -> str | None:
    """The first one that is there counts; None for the first pointer: the route has no such number."""
    if pointers[0] is None:
        return None
    places = (lookup(value, place) for place in pointers if place is not None)
    found = next((there for there in places if there is not MISSING), MISSING)
    wrong = problem(Kind.ORDER_NO, found)
    if wrong is None and isinstance(found, str):
        return found
    problems.append(f"{show_pointer(pointers[0])} {wrong}")
    return None


@dataclass(frozen=True, slots=True)
class _Reader:
    value: object
    problems: list[str]

    def text(self, pointer: JsonPointer, form: re.Pattern[str], wrong: str) -> str | None:
        found = lookup(self.value, pointer)
        if isinstance(found, str) and form.fullmatch(found):
            return found
        self.problems.append(f"{show_pointer(pointer)} {wrong}")
        return None

    def app_id(self, fields: Fields) -> str | None:
        if fields.app_id is not None:
            return self.text(fields.app_id, ORDER_NO, "is not an app id")
        named = (lookup(self.value, place) for place in fields.app_id_if_there)
        return next((found for found in named if isinstance(found, str) and ORDER_NO.fullmatch(found)), None)

    def card(self, fields: Fields) -> Card | None:
        """None where the payment says nothing of a card; what it says must be one."""
        number, type_text = self._optional(fields.card_no), self._optional(fields.card_type)
        pan = None if number is None else Pan.parse(number)
        if number is not None and (pan is None or not pan.is_card):
            self.problems.append(f"{show_pointer(fields.card_no or ())} is not a card number")
        return None if number is None and type_text is None else card_of(pan, type_text)

    def _optional(self, pointer: JsonPointer | None) -> str | None:
        found = MISSING if pointer is None else lookup(self.value, pointer)
        if pointer is None or found is MISSING or found is None or isinstance(found, str):
            return found if isinstance(found, str) else None
        self.problems.append(f"{show_pointer(pointer)} is not a text")
        return None

    def money(self, fields: Fields, pointer: JsonPointer) -> Money | None:
        currency = MISSING if fields.currency is None else lookup(self.value, fields.currency)
        if currency is MISSING and fields.currency is not None and other_case(self.value, fields.currency):
            # A service that reads names in any case would see a currency where we saw none.
            self.problems.append(f"{show_pointer(fields.currency)} is there in other letters")
            return None
        if currency is MISSING:
            currency = fields.default_currency
        if not isinstance(currency, str):
            self.problems.append(f"{show_pointer(fields.currency or pointer)} is not a currency code")
            return None
        currency = alphabetic_code(currency)
        try:
            return Money(_minor_units(fields.amount_notation, lookup(self.value, pointer), currency), currency)
        except ValueError as error:
            wrong = fields.currency if fields.currency is not None and "currency" in str(error) else pointer
            self.problems.append(f"{show_pointer(wrong)} {error}")
            return None


def other_case(value: object, pointer: JsonPointer) -> bool:
    """Whether the last member is not there, but one that differs from it in upper and lower case only."""
    parent = lookup(value, pointer[:-1])
    return isinstance(parent, dict) and any(name.casefold() == pointer[-1].casefold() for name in parent)


def _minor_units(notation: AmountNotation, amount: object, currency: str) -> int:
    if notation is AmountNotation.MINOR_UNITS:
        return amount  # type: ignore[return-value]  # Money refuses whatever is no int
    if not isinstance(amount, str):
        raise ValueError("an amount is a text here")  # noqa: TRY004 - one error kind for callers
    if notation is AmountNotation.MINOR_UNITS_TEXT:
        return minor_units_of_digits(amount)
    return minor_units_of_decimal(amount, currency)
