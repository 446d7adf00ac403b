"""Owns judging a request's fields by a route's validation. Refuses to stop at the first fault, and to tell a value.

A violation names the field as its pointer and what is wrong. A rule about a field that is not there holds, unless the
field is required; null counts as absent. Numbers are compared exactly, as Decimal: never as binary floats.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal

from paymesh.payments.bodies.body import FilePart
from paymesh.payments.bodies.json_body import MISSING, lookup
from paymesh.payments.bodies.pointer import WILDCARD, show_pointer
from paymesh.payments.fields.facts import OrderFacts
from paymesh.payments.fields.kinds import problem as kind_problem
from paymesh.payments.fields.kinds import seconds_of
from paymesh.payments.fields.wildcard import places
from paymesh.payments.policy.callers import Merchant
from paymesh.payments.policy.field_rules import (
    CompareRule,
    FieldRule,
    JsonType,
    Kind,
    Place,
    Relation,
    SumRule,
    Validation,
)

MAX_TOLD = 20
"""Violations told at most; the rest are counted."""
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,18})?", re.ASCII)
_EXACT = Context(prec=2000)
"""Room for the product and the sum of any numbers that a body may hold (`MAX_DOUBLE_EXPONENT`)."""


@dataclass(frozen=True, slots=True)
class Message:
    """The parts of a request that rules look into; each a tree of dicts, lists and scalars."""

    body: object = field(default=None, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    path: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def part(self, place: Place) -> object:
        match place:
            case Place.BODY:
                return self.body
            case Place.QUERY:
                return self.query
            case Place.PATH:
                return self.path
            case Place.HEADER:
                return self.headers


def violations(validation: Validation, message: Message, now_s: int) -> list[str]:
    """Everything wrong, in the order of the rules."""
    found: list[str] = []
    for rule in validation.fields:
        found += _field_violations(rule, message.part(rule.place), now_s)
    for total in validation.sums:
        found += _sum_violations(total, message.body)
    for relation in validation.comparisons:
        found += _comparison_violations(relation, message.body)
    return found


def merchant_violations(merchant: Merchant, facts: OrderFacts) -> list[str]:
    """What this merchant may not sell or ask for, though another may."""
    found = []
    if merchant.amounts is not None and facts.money is not None:
        bounds = merchant.amounts.get(facts.money.currency)
        if bounds is None:
            found.append("the currency is none of the merchant's")
        elif not bounds.min <= facts.money.amount <= bounds.max:
            found.append("the amount is outside the merchant's bounds")
    if merchant.products is not None and facts.product is not None and facts.product not in merchant.products:
        found.append("the product is none of the merchant's")
    return found


def told(found: list[str]) -> tuple[str, ...]:
    """What the caller hears of them."""
    if len(found) <= MAX_TOLD:
        return tuple(found)
    return (*found[:MAX_TOLD], f"and {len(found) - MAX_TOLD} more")


def _field_violations(rule: FieldRule, tree: object, now_s: int) -> Iterator[str]:
    for pointer in places(tree, rule.field):
        value = lookup(tree, pointer)
        if value is MISSING or value is None:
            if rule.required:
                yield f"{show_pointer(pointer)} is required"
        else:
            for problem in _problems(rule, value, now_s):
                yield f"{show_pointer(pointer)} {problem}"
    if rule.required and WILDCARD in rule.field:
        items = rule.field[: rule.field.index(WILDCARD)]
        if not lookup(tree, items) or not isinstance(lookup(tree, items), list):
            yield f"{show_pointer(items)} is required, as an array"


def _problems(rule: FieldRule, value: object, now_s: int) -> Iterator[str]:
    if rule.type is not None and not _TYPES[rule.type](value):
        yield f"is not of type {rule.type}"
        return
    if isinstance(value, FilePart):
        length, what = value.length, "bytes"
    elif isinstance(value, list):
        length, what = len(value), "elements"
    else:
        length, what = len(str(value)), "characters"
    if rule.min_length is not None and length < rule.min_length:
        yield f"has less than {rule.min_length} {what}"
    if rule.max_length is not None and length > rule.max_length:
        yield f"has more than {rule.max_length} {what}"
        return
    if rule.kind is not None:
        problem = kind_problem(rule.kind, value)
        if problem is not None:
            yield problem
            return
    if rule.pattern is not None and not (isinstance(value, str) and rule.pattern.fullmatch(value)):
        yield "does not have the form required"
    if rule.one_of is not None and (isinstance(value, dict | list | bool) or str(value) not in rule.one_of):
        yield "is none of the values allowed"
    yield from _bound_problems(rule, value)
    if rule.kind is Kind.TIMESTAMP and (rule.ahead_min_s is not None or rule.ahead_max_s is not None):
        yield from _expiry_problems(rule, value, now_s)


def _bound_problems(rule: FieldRule, value: object) -> Iterator[str]:
    if rule.minimum is None and rule.maximum is None:
        return
    number = exact_number(value)
    if number is None:
        yield "is not a number"
    elif rule.minimum is not None and number < rule.minimum:
        yield f"is less than {rule.minimum}"
    elif rule.maximum is not None and number > rule.maximum:
        yield f"is more than {rule.maximum}"


def _expiry_problems(rule: FieldRule, value: object, now_s: int) -> Iterator[str]:
    at_s = seconds_of(value)
    if at_s is None:
        yield "is not a timestamp"
    elif rule.ahead_min_s is not None and at_s < now_s + rule.ahead_min_s:
        yield f"is not at least {rule.ahead_min_s} s in the future"
    elif rule.ahead_max_s is not None and at_s > now_s + rule.ahead_max_s:
        yield f"is more than {rule.ahead_max_s} s in the future"


def _sum_violations(rule: SumRule, body: object) -> Iterator[str]:
    whole = lookup(body, rule.equals)
    addends = list(places(body, rule.items))
    if whole in (MISSING, None) and not addends:
        return
    total = Decimal(0)
    for number, pointer in enumerate(addends):
        addend = exact_number(lookup(body, pointer))
        count: Decimal | None = Decimal(1)
        if rule.times is not None:
            at = rule.times.index(WILDCARD)
            # The same element: whatever stands at the star of the one stands at the star of the other.
            count = exact_number(lookup(body, (*rule.times[:at], str(number), *rule.times[at + 1 :])))
        if addend is None or count is None or count != count.to_integral_value() or count < 0:
            yield f"{show_pointer(pointer)} or its count is not a number"
            return
        total = _EXACT.add(total, _EXACT.multiply(addend, count))
    stated = exact_number(whole)
    if stated is None:
        yield f"{show_pointer(rule.equals)} is not a number"
    elif stated != total:
        yield f"{show_pointer(rule.equals)} is not the sum of {show_pointer(rule.items)}"


def _comparison_violations(rule: CompareRule, body: object) -> Iterator[str]:
    one, other = lookup(body, rule.field), lookup(body, rule.other)
    if one in (MISSING, None) or other in (MISSING, None):
        return
    left, right = exact_number(one), exact_number(other)
    if left is None or right is None:
        if rule.relation not in (Relation.EQUAL, Relation.DIFFERENT):
            yield f"{show_pointer(rule.field)} and {show_pointer(rule.other)} are not both numbers"
        elif (one == other) is not (rule.relation is Relation.EQUAL):
            yield f"{show_pointer(rule.field)} is not {_SAID[rule.relation]} {show_pointer(rule.other)}"
    elif not _RELATIONS[rule.relation](left, right):
        yield f"{show_pointer(rule.field)} is not {_SAID[rule.relation]} {show_pointer(rule.other)}"


def exact_number(value: object) -> Decimal | None:
    """The number that a value is, or that a text spells; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    return Decimal(value)


_TYPES: Mapping[JsonType, Callable[[object], bool]] = {
    JsonType.STRING: lambda value: isinstance(value, str),
    JsonType.INTEGER: lambda value: isinstance(value, int) and not isinstance(value, bool),
    JsonType.NUMBER: lambda value: isinstance(value, int | Decimal) and not isinstance(value, bool),
    JsonType.BOOLEAN: lambda value: isinstance(value, bool),
    JsonType.OBJECT: lambda value: isinstance(value, dict),
    JsonType.ARRAY: lambda value: isinstance(value, list),
}
_RELATIONS: Mapping[Relation, Callable[[Decimal, Decimal], bool]] = {
    Relation.LESS: lambda one, other: one < other,
    Relation.AT_MOST: lambda one, other: one <= other,
    Relation.EQUAL: lambda one, other: one == other,
    Relation.DIFFERENT: lambda one, other: one != other,
    Relation.AT_LEAST: lambda one, other: one >= other,
    Relation.MORE: lambda one, other: one > other,
}
_SAID: Mapping[Relation, str] = {
    Relation.LESS: "less than",
    Relation.AT_MOST: "at most",
    Relation.EQUAL: "equal to",
    Relation.DIFFERENT: "different from",
    Relation.AT_LEAST: "at least",
    Relation.MORE: "more than",
}
