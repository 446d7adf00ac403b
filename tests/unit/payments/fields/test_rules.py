"""Validation: every violation with its path, and none with a value."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.denial import Denial
from paymesh.payments.fields.facts import OrderFacts, read_facts
from paymesh.payments.fields.rules import Message, exact_number, merchant_violations, told, violations
from paymesh.payments.money import Money
from paymesh.payments.policy.callers import AmountRange, Merchant
from paymesh.payments.policy.compiled import Fields
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

NOW_S = 1_790_000_000


def judged(rule: FieldRule, value: object) -> list[str]:
    return violations(Validation(fields=(rule,)), Message({"f": value}), NOW_S)


def of(**more: object) -> FieldRule:
    return FieldRule(("f",), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "value", "problem"),
    [
        (of(required=True), None, "/f is required"),
        (of(kind=Kind.PHONE), None, None),
        (of(type=JsonType.INTEGER), 5, None),
        (of(type=JsonType.INTEGER), True, "/f is not of type integer"),
        (of(type=JsonType.INTEGER), Decimal("5.0"), "/f is not of type integer"),
        (of(type=JsonType.NUMBER), Decimal("5.0"), None),
        (of(type=JsonType.STRING), 5, "/f is not of type string"),
        (of(type=JsonType.ARRAY, min_length=1), [], "/f has less than 1 elements"),
        (of(type=JsonType.OBJECT), [], "/f is not of type object"),
        (of(max_length=2), "张三李", "/f has more than 2 characters"),
        (of(min_length=2), "张", "/f has less than 2 characters"),
        (of(pattern=re.compile("[a-z]+"), max_length=9), "abc", None),
        (of(pattern=re.compile("[a-z]+"), max_length=9), "abc1", "/f does not have the form required"),
        (of(pattern=re.compile("[0-9]+"), max_length=9), 5, "/f does not have the form required"),
        (of(one_of=frozenset({"native", "5"})), 5, None),
        (of(one_of=frozenset({"True"})), True, "/f is none of the values allowed"),
        (of(one_of=frozenset({"native"})), "jsapi", "/f is none of the values allowed"),
        (of(minimum=Decimal(1), maximum=Decimal("9.99")), "9.99", None),
        (of(maximum=Decimal("9.99")), "9.990000001", "/f is more than 9.99"),
        (of(minimum=Decimal(1)), 0, "/f is less than 1"),
        (of(minimum=Decimal(1)), "1e3", "/f is not a number"),
        (of(minimum=Decimal(1)), "NaN", "/f is not a number"),
        (of(kind=Kind.PHONE), "13812341234", None),
        (of(kind=Kind.PHONE), "12012341234", "/f is not"),
        (of(kind=Kind.TIMESTAMP, ahead_min_s=60), NOW_S + 59, "/f is not at least 60 s in the future"),
        (of(kind=Kind.TIMESTAMP, ahead_min_s=60, ahead_max_s=120), NOW_S + 60, None),
        (of(kind=Kind.TIMESTAMP, ahead_max_s=120), NOW_S + 121, "/f is more than 120 s in the future"),
    ],
)
def test_one_field(rule: FieldRule, value: object, problem: str | None) -> None:
    found = judged(rule, value)
    assert (found == []) if problem is None else (len(found) == 1 and found[0].startswith(problem)), found


def test_every_violation_is_told_in_the_order_of_the_rules() -> None:
    validation = Validation(
        fields=(
            FieldRule(("items", "*", "price"), required=True, type=JsonType.INTEGER),
            FieldRule(("phone",), kind=Kind.PHONE),
            FieldRule(("q",), Place.QUERY, required=True),
            FieldRule(("name",), Place.PATH, max_length=3),
            FieldRule(("x-shop",), Place.HEADER, one_of=frozenset({"a"})),
        )
    )
    body = {"items": [{"price": 1}, {}, {"price": "2"}], "phone": "110"}
    found = violations(validation, Message(body, {}, {"name": "long"}, {"x-shop": "b"}), NOW_S)
    assert [problem.split(" ")[0] for problem in found] == [
        "/items/1/price",
        "/items/2/price",
        "/phone",
        "/q",
        "/name",
        "/x-shop",
    ]
    assert not any("110" in problem for problem in found)


@pytest.mark.parametrize("body", [{}, {"items": []}, {"items": "x"}, {"items": {"price": 1}}])
def test_a_required_field_of_items_needs_items(body: object) -> None:
    rule = FieldRule(("items", "*", "price"), required=True)
    assert violations(Validation((rule,)), Message(body), NOW_S) == ["/items is required, as an array"]


SUM = SumRule(("items", "*", "price"), ("items", "*", "count"), ("total",))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"items": [{"price": 100, "count": 2}, {"price": 50, "count": 1}], "total": 250}, None),
        ({"items": [{"price": "0.10", "count": 3}], "total": "0.30"}, None),
        ({"items": [{"price": "0.10", "count": 3}], "total": "0.31"}, "/total is not the sum of /items/*/price"),
        ({"items": [{"price": 100, "count": 2}], "total": "x"}, "/total is not a number"),
        ({"items": [{"price": 100, "count": 2}]}, "/total is not a number"),
        ({"items": [{"price": 100}], "total": 100}, "/items/0/price or its count is not a number"),
        ({"items": [{"price": 100, "count": "1.5"}], "total": 150}, "/items/0/price or its count is not a number"),
        ({"items": [{"price": 200, "count": -1}], "total": -200}, "/items/0/price or its count is not a number"),
        ({"items": [{"price": True, "count": 1}], "total": 1}, "/items/0/price or its count is not a number"),
        ({"items": [], "total": 0}, None),
        ({"items": [], "total": 1}, "/total is not the sum of /items/*/price"),
        ({}, None),
    ],
)
def test_sums_are_exact(body: object, problem: str | None) -> None:
    assert violations(Validation(sums=(SUM,)), Message(body), NOW_S) == ([] if problem is None else [problem])


@given(st.lists(st.tuples(st.integers(0, 10**29), st.integers(0, 10**29)), min_size=1, max_size=5), st.integers(-1, 1))
def test_sums_of_huge_numbers_lose_no_unit(items: list[tuple[int, int]], off: int) -> None:
    total = sum(price * count for price, count in items) + off
    body = {"items": [{"price": str(price), "count": count} for price, count in items], "total": total}
    assert bool(violations(Validation(sums=(SUM,)), Message(body), NOW_S)) is (off != 0)


@pytest.mark.parametrize(
    ("relation", "one", "other", "holds"),
    [
        (Relation.AT_MOST, 5, "5.00", True),
        (Relation.LESS, 5, 5, False),
        (Relation.MORE, "6", 5, True),
        (Relation.AT_LEAST, 4, 5, False),
        (Relation.EQUAL, "a", "a", True),
        (Relation.EQUAL, "a", "b", False),
        (Relation.DIFFERENT, "a", "b", True),
        (Relation.DIFFERENT, "1.0", 1, False),
        (Relation.AT_MOST, "a", 5, False),
        (Relation.AT_MOST, None, 5, True),
    ],
)
def test_two_fields_are_compared(relation: Relation, one: object, other: object, holds: bool) -> None:
    rule = CompareRule(("one",), relation, ("other",))
    found = violations(Validation(comparisons=(rule,)), Message({"one": one, "other": other}), NOW_S)
    assert (not found) is holds, found


def test_a_merchant_has_bounds_and_products_of_its_own() -> None:
    merchant = Merchant("m", {}, amounts={"CNY": AmountRange(100, 500)}, products=frozenset({"native"}))
    assert merchant_violations(merchant, OrderFacts(money=Money(100, "CNY"), product="native")) == []
    assert merchant_violations(merchant, OrderFacts(money=Money(501, "CNY"))) == [
        "the amount is outside the merchant's bounds"
    ]
    assert merchant_violations(merchant, OrderFacts(money=Money(200, "USD"), product="jsapi")) == [
        "the currency is none of the merchant's",
        "the product is none of the merchant's",
    ]


def test_facts_name_every_field_that_is_wrong() -> None:
    fields = Fields(order_no=("no",), amount=("amount",), currency=("currency",), product=("p",), required=(("memo",),))
    denial = read_facts(fields, {"no": "a b", "amount": 1.5, "currency": 5})
    assert isinstance(denial, Denial)
    assert [line.split(" ")[0] for line in denial.told] == ["/memo", "/no", "/currency", "/p"]


@pytest.mark.parametrize("name", ["Currency", "CURRENCY", "currencY"])
def test_a_currency_under_another_spelling_is_not_taken_for_the_default(name: str) -> None:
    fields = Fields(amount=("amount",), currency=("currency",))
    assert isinstance(read_facts(fields, {"amount": 5, name: "USD"}), Denial)
    assert not isinstance(read_facts(fields, {"amount": 5}), Denial)


def test_only_so_many_are_told() -> None:
    assert told([str(n) for n in range(25)])[-1] == "and 5 more"
    assert len(told([str(n) for n in range(20)])) == 20


@given(st.one_of(st.text(max_size=20), st.integers(), st.booleans(), st.none(), st.lists(st.integers())))
def test_a_number_is_what_it_spells(value: object) -> None:
    number = exact_number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        assert number == value
    elif number is not None:
        assert isinstance(value, str)
        assert Decimal(value) == number
