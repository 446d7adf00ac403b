"""Choosing a channel: operation, product, currency, amount, then priority."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paymesh.payments.channels import obstacle_to, select_channel
from paymesh.payments.money import MAX_MINOR_UNITS, Money
from paymesh.payments.policy.compiled import Channel, Operation

CARD = Channel("card", "card", frozenset({Operation.PAY}), frozenset({"card"}), frozenset({"CNY"}), 100, 2000, 30)
ANY = Channel("any", "trade", frozenset({Operation.PAY}), None, frozenset({"CNY", "USD"}), 1, None, 90)


@pytest.mark.parametrize(
    ("product", "money", "chosen"),
    [
        ("card", Money(100, "CNY"), "card"),
        ("card", Money(2000, "CNY"), "card"),
        ("card", Money(99, "CNY"), "any"),
        ("card", Money(2001, "CNY"), "any"),
        ("card", Money(500, "USD"), "any"),
        ("wallet", Money(500, "CNY"), "any"),
        (None, Money(500, "CNY"), "any"),
        ("card", Money(500, "EUR"), None),
    ],
)
def test_the_first_that_fits_takes_it(product: str | None, money: Money, chosen: str | None) -> None:
    selection = select_channel([CARD, ANY], Operation.PAY, product, money)
    assert (selection.channel.name if selection.channel else None) == chosen
    if chosen != "card":
        assert selection.why.startswith("card: ")


def test_an_operation_that_it_does_not_do_is_an_obstacle() -> None:
    assert obstacle_to(CARD, Operation.REFUND, "card", Money(500, "CNY")) == "does no refund"
    assert (
        obstacle_to(
            replace(CARD, operations=frozenset({Operation.REFUND})), Operation.REFUND, "card", Money(500, "CNY")
        )
        is None
    )


@pytest.mark.parametrize("amount", [0, -1, MAX_MINOR_UNITS + 1, True, 1.0, "1", None])
def test_money_is_whole_positive_minor_units(amount: object) -> None:
    with pytest.raises(ValueError, match="amount"):
        Money(amount, "CNY")  # type: ignore[arg-type]


@pytest.mark.parametrize("currency", ["cny", "CN", "CNYX", "", "人民币", None])
def test_a_currency_is_an_iso_4217_code(currency: object) -> None:
    with pytest.raises(ValueError, match="currency"):
        Money(1, currency)  # type: ignore[arg-type]
