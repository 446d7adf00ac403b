"""What is read of a payment's card: its type and its number's beginning, where the payment says so."""

from __future__ import annotations

import pytest

from paymesh.payments.denial import Denial, Reason
from paymesh.payments.fees import CardType
from paymesh.payments.fields.facts import OrderFacts, read_facts
from paymesh.payments.policy.compiled import Fields

FIELDS = Fields(card_no=("card", "no"), card_type=("card", "type"))
NUMBER = "6222 0212-3456 7890 128"


def facts(card: object) -> OrderFacts | Denial:
    return read_facts(FIELDS, {"card": card})


def test_type_and_beginning() -> None:
    found = facts({"no": NUMBER, "type": "Debit"})
    assert isinstance(found, OrderFacts)
    assert found.card is not None
    assert found.card.type is CardType.DEBIT
    assert found.card.begins_with("62220212")
    assert "6222" not in repr(found)


@pytest.mark.parametrize("card", [None, {}, {"no": None, "type": None}, "none"])
def test_a_payment_that_is_not_by_card(card: object) -> None:
    found = facts(card)
    assert isinstance(found, OrderFacts)
    assert found.card is None


def test_one_without_the_other() -> None:
    numbered, typed = facts({"no": NUMBER}), facts({"type": "prepaid"})
    assert isinstance(numbered, OrderFacts)
    assert isinstance(typed, OrderFacts)
    assert numbered.card is not None
    assert typed.card is not None
    assert (numbered.card.type, typed.card.type) == (None, None)
    assert not typed.card.begins_with("6")


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ({"no": "4111111111111112"}, ("/card/no is not a card number",)),
        ({"no": ""}, ("/card/no is not a card number",)),
        ({"no": 6222021234567890128}, ("/card/no is not a text",)),
        ({"no": NUMBER, "type": 1}, ("/card/type is not a text",)),
        ({"no": ["6222"], "type": {}}, ("/card/no is not a text", "/card/type is not a text")),
    ],
)
def test_what_is_said_of_a_card_is_one(card: object, told: tuple[str, ...]) -> None:
    found = facts(card)
    assert isinstance(found, Denial)
    assert (found.reason, found.told) == (Reason.FIELD_INVALID, told)


def test_a_route_without_pointers_reads_no_card() -> None:
    found = read_facts(Fields(), {"card": {"no": 1}})
    assert isinstance(found, OrderFacts)
    assert found.card is None
