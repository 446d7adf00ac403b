"""Owns the words for what an answer says: an outcome, why, and whose fault. Refuses values of the answer: a reason
holds no word of it beyond those of a protocol's own table."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.policy.compiled import Operation


class Outcome(enum.StrEnum):
    """What became of an operation, as far as its response tells."""

    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Fault(enum.StrEnum):
    """Whose fault it is that no money moved. Only the channel's counts against a channel."""

    NONE = "none"
    """Accepted or succeeded; or it was our own doing that nothing was read."""
    PAYER = "payer"
    """Too little money, a wrong password, the payer's limit, a card that does not do."""
    MERCHANT = "merchant"
    """The request: its parameters, its permission, an order that came before."""
    CHANNEL = "channel"
    """An outage, a bank that is away, the provider's own rate limit, and whatever is not explained."""


class Reading(NamedTuple):
    """What an answer says."""

    outcome: Outcome
    why: str
    fault: Fault


Verdict = tuple[Outcome, Fault]
"""What one word of a provider means."""
SUCCEEDED: Verdict = (Outcome.SUCCEEDED, Fault.NONE)
ACCEPTED: Verdict = (Outcome.ACCEPTED, Fault.NONE)


def accepted(why: str) -> Reading:
    return Reading(Outcome.ACCEPTED, why, Fault.NONE)


def succeeded(why: str) -> Reading:
    return Reading(Outcome.SUCCEEDED, why, Fault.NONE)


def refused(why: str, fault: Fault) -> Reading:
    return Reading(Outcome.REFUSED, why, fault)


def unknown(why: str, fault: Fault = Fault.CHANNEL) -> Reading:
    return Reading(Outcome.UNKNOWN, why, fault)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was observed of an answer."""

    operation: Operation
    status: int
    body: bytes
    content_type: str | None


@dataclass(frozen=True, slots=True)
class Reader:
    """How one protocol's answers are read. Neither function raises, whatever was answered."""

    media_types: frozenset[str]
    """What its answers call themselves; a body of another type is not looked at."""
    read_status: Callable[[Operation, int], Reading | None]
    """What the status alone decides; None when the body has to be read."""
    read_body: Callable[[Answer], Reading]
    """For answers that their status does not decide."""


def parse_object(answer: Answer, charset: str = "utf-8") -> Mapping[str, object] | Reading:
    """The answer's JSON object, or that it has none. `charset`: a codec's name."""
    try:
        value = parse_json(answer.body, object_only=True, charset=charset).value
    except BodyError as error:
        return unreadable(answer.status, error)
    assert isinstance(value, dict)  # nothing else is parsed
    return value


def unreadable(status: int, error: BodyError) -> Reading:
    return unknown(f"{status}, but the body is not readable ({error.kind})")


def read_word(document: Mapping[str, object], name: str, words: Mapping[str, Verdict]) -> Reading:
    """What the member `name` means; unknown for a word that is not in the table, which then is not told either."""
    word = document.get(name)
    verdict = words.get(word) if isinstance(word, str) else None
    if verdict is None:
        return unknown(f"no known {name}")
    return Reading(verdict[0], f"{name} is {word}", verdict[1])


def has_text(document: Mapping[str, object], name: str) -> bool:
    """Whether the member is a text that is not empty."""
    value = document.get(name)
    return isinstance(value, str) and bool(value)
