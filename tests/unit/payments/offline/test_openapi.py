"""The OpenAPI document says what the rules do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from paymesh.payments.denial import Denial
from paymesh.payments.events.types import OfflineMethod, OfflineRecorded
from paymesh.payments.offline.message import LIMITS, read_message, write_message
from paymesh.payments.offline.openapi import EXAMPLES, openapi
from paymesh.payments.offline.record import FIELDS
from tests.unit.payments.offline.test_record import PAN, TELLER, made

DOCUMENT = openapi()
CASH = EXAMPLES["cash"]["value"]


def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator({**DOCUMENT, "$ref": f"#/components/schemas/{name}"})


def read(value: object) -> OfflineRecorded | Denial:
    return read_message(json.dumps(value).encode(), TELLER)


def test_it_is_openapi() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_is_answered_as_it_says(name: str) -> None:
    value, says = EXAMPLES[name]["value"], EXAMPLES[name]["x-answer"]
    found = read(value)
    if says["status"] == 201:
        assert isinstance(found, OfflineRecorded)
        assert schema("OfflinePayment").is_valid(value)
        assert schema("OfflineRecord").is_valid(write_message(found))
        return
    assert isinstance(found, Denial)
    assert (str(found.reason), [one.partition(":")[0] for one in found.told]) == (says["code"], says["fields"])


def test_every_field_is_in_it() -> None:
    told = DOCUMENT["components"]["schemas"]["OfflinePayment"]["properties"]
    assert {*told} - {"amount"} | {*DOCUMENT["components"]["schemas"]["Amount"]["properties"]} - {"total"} | {
        "amount"
    } == {*FIELDS}


# Python's `$` also matches before a last line feed; ECMA 262's, which JSON Schema means, does not.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=8) | st.sampled_from(
    ["R-1", "cash", "CNY", "a b", "2026-03-01T12:30:00Z", "2026-03-01T12:30:00", "a.b", "a" * 64, "a" * 65, "n" * 201]
)
ANY: Any = st.none() | st.booleans() | st.integers(-1, 10**14) | TEXT
PAYMENTS = st.fixed_dictionaries(
    {},
    optional={
        "reference": ANY, "method": ANY | st.sampled_from([*map(str, OfflineMethod)]), "paid_at": ANY, "order_no": ANY,
        "store": ANY, "terminal": ANY, "note": ANY, "more": ANY,
        "amount": ANY | st.fixed_dictionaries({}, optional={"total": ANY, "currency": ANY, "more": ANY}),
    },
)  # fmt: skip


@given(changed=PAYMENTS)
def test_what_the_rules_take_the_schema_takes_and_the_other_way_round(changed: dict[str, object]) -> None:
    value = CASH | changed
    taken = isinstance(read(value), OfflineRecorded)
    # What is personal data, or a time that there was not, no schema says.
    assert taken == schema("OfflinePayment").is_valid(value)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "body_malformed"),
        (b"[]", "body_malformed"),
        (b"\xff{}", "body_malformed"),
        (b'{"reference":"a","reference":"b"}', "body_duplicate_key"),
        (b'{"note":"' + b"x" * LIMITS.max_bytes + b'"}', "body_too_large"),
        (b'{"note":[[[[[]]]]]}', "body_malformed"),
        (json.dumps(CASH | {"amount": 5}).encode(), "field_invalid"),
        (json.dumps(CASH).encode().replace(b"8800", b"8800.0"), "field_invalid"),
    ],
)
def test_what_is_no_record_is_refused(body: bytes, reason: str) -> None:
    found = read_message(body, TELLER)
    assert isinstance(found, Denial)
    assert str(found.reason) == reason


def test_every_violation_is_told_and_no_value() -> None:
    found = read({PAN: 1, "amount": {"total": PAN, PAN: 1}, "method": PAN, "note": PAN, "store": PAN})
    assert isinstance(found, Denial)
    assert sorted(one.partition(":")[0] for one in found.told) == [
        "/", "/amount", "/amount/currency", "/amount/total", "/method", "/note", "/paid_at", "/reference", "/store",
    ]  # fmt: skip
    assert PAN not in repr(found)


def test_an_answer_tells_what_was_told() -> None:
    assert write_message(made(order_no="O-1", note="三")) == {
        "id": "offline:shop:R-1", "recorded_at": "2026-03-02T00:00:00Z", "merchant": "shop", "reference": "R-1",
        "amount": {"total": 8800, "currency": "CNY"}, "method": "cash", "paid_at": "2026-03-01T04:30:00Z",
        "order_no": "O-1", "note": "三",
    }  # fmt: skip
