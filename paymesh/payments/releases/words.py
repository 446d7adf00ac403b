"""Owns what steps, times and amounts of a release are called where people read them."""

from __future__ import annotations

from paymesh.payments.money import decimal_of_minor_units
from paymesh.payments.percent import format_percent
from paymesh.payments.policy.forwarding import Fault
from paymesh.payments.releases.plan import Gate, Hold, Plan, SetPins, SetWeight, Step
from paymesh.payments.releases.traffic import MERCHANT, Pin


def step_number(plan: Plan, step: int) -> str:
    """Which of how many; behind the last one it is that."""
    return f"{min(step + 1, len(plan.steps))}/{len(plan.steps)}"


def step_in_words(step: Step) -> str:
    """Such as "weight 10.00%", "hold 5m", "merchant 1001" and "gate"."""
    match step:
        case SetWeight(weight):
            return f"weight {format_percent(weight)}%"
        case SetPins(pins):
            return pins_in_words(pins)
        case Hold(0):
            return "analysis"
        case Hold(seconds):
            return f"hold {duration_in_words(seconds)}"
        case Gate():
            return "gate"


def pins_in_words(pins: tuple[Pin, ...]) -> str:
    """One by itself, several merchants by their number."""
    if len(pins) > 1:
        return f"{len(pins)} {pins[0].kind}s"
    (pin,) = pins
    return f"merchant {pin.value}" if pin.kind == MERCHANT else f"{pin.kind} {pin.name}={pin.value}"


def duration_in_words(seconds: int) -> str:
    """Such as "1h30m" and "45s"."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if count]
    return "".join(parts) or "0s"


def money_in_words(amount: int, currency: str) -> str:
    """Such as "88.88 CNY"; of a currency whose decimals are not known here, its minor units."""
    try:
        return f"{decimal_of_minor_units(amount, currency)} {currency}"
    except ValueError:
        return f"{amount} minor units of {currency}"


def fault_in_words(fault: Fault) -> str:
    """What a drill does."""
    parts = []
    if fault.status is not None:
        parts.append(f"{format_percent(fault.aborted)}% answered with {fault.status}")
    if fault.delay_ms is not None:
        parts.append(f"{format_percent(fault.delayed)}% held up {fault.delay_ms} ms")
    return ", ".join(parts)
