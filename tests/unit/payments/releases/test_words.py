"""What people read of steps, times, amounts and faults."""

from __future__ import annotations

import pytest

from paymesh.payments.policy.forwarding import Fault
from paymesh.payments.releases.plan import Gate, Hold, SetPins, SetWeight, Step
from paymesh.payments.releases.traffic import Pin
from paymesh.payments.releases.words import duration_in_words, fault_in_words, money_in_words, step_in_words


def merchants(*names: str) -> SetPins:
    return SetPins(tuple(Pin("merchant", "", name, "v2") for name in names))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (SetWeight(1), "weight 0.01%"),
        (Hold(0), "analysis"),
        (SetWeight(1_000), "weight 10.00%"),
        (SetWeight(10_000), "weight 100.00%"),
        (Hold(300), "hold 5m"),
        (Gate(), "gate"),
        (merchants("1001"), "merchant 1001"),
        (merchants("1001", "1002", "1003"), "3 merchants"),
        (SetPins((Pin("header", "x-canary", "yes", "v2"),)), "header x-canary=yes"),
        (SetPins((Pin("cookie", "canary", "yes", "v2"),)), "cookie canary=yes"),
    ],
)
def test_steps(step: Step, words: str) -> None:
    assert step_in_words(step) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (45, "45s"), (60, "1m"), (61, "1m1s"), (3_600, "1h"), (5_400, "1h30m"), (90_061, "25h1m1s")],
)
def test_durations(seconds: int, words: str) -> None:
    assert duration_in_words(seconds) == words


@pytest.mark.parametrize(
    ("amount", "currency", "words"),
    [
        (8_888, "CNY", "88.88 CNY"),
        (5, "USD", "0.05 USD"),
        (500, "JPY", "500 JPY"),
        (1_234, "KWD", "1234 minor units of KWD"),
        (10**15, "CNY", "10000000000000.00 CNY"),
    ],
)
def test_amounts(amount: int, currency: str, words: str) -> None:
    assert money_in_words(amount, currency) == words


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(None, 0, 503, 500), "5.00% answered with 503"),
        (Fault(300, 10_000, None, 0), "100.00% held up 300 ms"),
        (Fault(300, 25, 500, 1), "0.01% answered with 500, 0.25% held up 300 ms"),
    ],
)
def test_faults(fault: Fault, words: str) -> None:
    assert fault_in_words(fault) == words
