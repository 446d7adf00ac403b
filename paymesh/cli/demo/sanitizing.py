"""Owns the scenarios that show what the other side really received of personal data that was sent."""

from __future__ import annotations

import re

from paymesh.cli.demo.masked_answers import MASKED_ANSWERS
from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.scenario import Act, Scenario
from paymesh.cli.demo.world import World


def _received(*path: str, **sent: object) -> Act:
    """An act that pays with the personal data `sent` and tells what stood at `path` when it arrived."""

    async def act(world: World) -> str:
        order = f"{world.run}-{'-'.join(path)}"
        answer = await world.pay(payment(order, "card", **sent))
        value: object = await world.received_body("card", answer.request_id)
        if answer.status != 200 or not isinstance(value, dict) or value.get("order_no") != order:
            return f"{answer.status}, and the service received {value}"
        for name in path:
            value = value.get(name, "nothing") if isinstance(value, dict) else "nothing"
        return re.sub(r"[0-9a-f]{64}:[0-9a-f]{16}", "<80 hex digits>", str(value))

    return act


SANITIZING = (
    Scenario("phone, as received", "138****1234", _received("payer", "phone", payer={"phone": "13812341234"})),
    Scenario(
        "resident ID, as received",
        "110105********002X",
        _received("payer", "resident_id", payer={"resident_id": "11010519491231002X"}),
    ),
    Scenario(
        "card number, as received",
        "622202******7894",
        _received("card", "pan", card={"pan": "6222021234567894", "cvv": "123"}),
    ),
    Scenario(
        "card's CVV, as received", "nothing", _received("card", "cvv", card={"pan": "6222021234567894", "cvv": "123"})
    ),
    Scenario(
        "related order number, as received",
        "2026********0042",
        _received("related_order_no", related_order_no="2026112300000042"),
    ),
    Scenario(
        "email, hashed with a key",
        "hk:k1:<80 hex digits>",
        _received("payer", "email", payer={"email": "li@example.com"}),
    ),
    *MASKED_ANSWERS,
)
