"""Owns the payment events: what each says, and their form as JSON, version 1.

Refuses personal data: an event has the order's number and amount, the merchant, and words of ours; no field of a
message, no name, phone, card or address of a payer; of a payment taken elsewhere, only what `paymesh/payments/offline`
let through. An event's `id` is made of the attempt's, so that what is told twice is kept once.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

from paymesh.payments.money import Money
from paymesh.payments.outcome import Outcome
from paymesh.payments.policy.compiled import Operation

VERSION = 1
MAX_WHY = 500
"""Characters."""


class EventType(enum.StrEnum):
    PAYMENT_ATTEMPTED = "PaymentAttempted"
    """A payment or refund is about to leave."""
    PAYMENT_ACCEPTED = "PaymentAccepted"
    """The channel took it; money has not moved."""
    PAYMENT_SUCCEEDED = "PaymentSucceeded"
    PAYMENT_REFUSED = "PaymentRefused"
    """Nothing will come of the attempt: refused, or it never left."""
    PAYMENT_UNKNOWN = "PaymentUnknown"
    """It ended and nobody said how: the channel has to be asked."""
    REFUNDED = "Refunded"
    NOTIFIED = "Notified"
    """A channel said of its own accord what became of an order."""
    OFFLINE_RECORDED = "OfflineRecorded"
    """A merchant tells of a payment that was taken elsewhere."""


class Result(enum.StrEnum):
    """How an attempt ended. All but UNKNOWN are certain."""

    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    UNSENT = "unsent"
    """No service saw it."""
    UNKNOWN = "unknown"


class ToldBy(enum.StrEnum):
    """Who said how an attempt ended."""

    ANSWER = "answer"
    ACCESS_LOG = "access_log"
    CHECK = "check"
    """It was given up before it left."""
    REAPER = "reaper"
    """Nobody said anything in time."""
    RESOLVER = "resolver"
    """The channel, when it was asked."""
    OPERATOR = "operator"
    """A person: after the channel was asked, or from a merchant's list."""
    MERCHANT = "merchant"
    """The merchant itself, through the gateway."""


class OfflineMethod(enum.StrEnum):
    """How a payment was taken that no channel carried."""

    CASH = "cash"
    CARD_TERMINAL = "card_terminal"
    BANK_TRANSFER = "bank_transfer"
    CHEQUE = "cheque"
    OTHER = "other"


_TYPES: Mapping[Result, EventType] = {
    Result.ACCEPTED: EventType.PAYMENT_ACCEPTED,
    Result.SUCCEEDED: EventType.PAYMENT_SUCCEEDED,
    Result.REFUSED: EventType.PAYMENT_REFUSED,
    Result.UNSENT: EventType.PAYMENT_REFUSED,
    Result.UNKNOWN: EventType.PAYMENT_UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """PaymentAttempted. Times are microseconds since 1970; `amount` in minor units of `currency`; `order_no` is the
    refund's own number for a refund."""

    attempt_id: str
    at_us: int
    merchant: str
    route: str
    operation: Operation
    protocol: str
    order_no: str
    amount: int | None
    currency: str | None
    channel: str | None
    service: str
    product: str | None = None
    app_id: str | None = None
    repeats: bool = False
    """The same order was attempted before."""
    ends_by_us: int
    """When its end must have been told: then it counts as over, outcome unknown."""
    policy_version: str = ""
    why: str = ""
    """How the channel was found."""
    fee: int | None = None
    """What the channel charges for it, minor units; None where no schedule of fees says so."""
    fee_schedule: str | None = None
    """Id of the schedule in force."""
    begun_at_s: int | None = None
    """Unix seconds of the order's first attempt, as its provider was told."""
    original_order_no: str | None = None
    """Of a refund: the payment's order number."""

    @property
    def began_s(self) -> int:
        return self.at_us // 1_000_000 if self.begun_at_s is None else self.begun_at_s

    @property
    def id(self) -> str:
        return f"{self.attempt_id}:attempted"

    @property
    def type(self) -> EventType:
        return EventType.PAYMENT_ATTEMPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """PaymentAccepted, PaymentSucceeded, PaymentRefused, PaymentUnknown or Refunded: how an attempt ended."""

    attempt_id: str
    at_us: int
    operation: Operation
    result: Result
    told_by: ToldBy
    why: str = ""
    """In words of ours."""
    fault: str = ""
    """Whose it is that no money moved: payer, merchant or channel, as far as the answer tells."""

    @property
    def id(self) -> str:
        return f"{self.attempt_id}:{'unknown' if self.result is Result.UNKNOWN else 'ended'}"

    @property
    def type(self) -> EventType:
        if self.result is Result.SUCCEEDED and self.operation is Operation.REFUND:
            return EventType.REFUNDED
        return _TYPES[self.result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notified:
    """A channel's verified notification. `result`: SUCCEEDED, REFUSED (closed), or None: something else."""

    notice_id: str
    """Of the message: the same one repeated is one event."""
    at_us: int
    merchant: str
    route: str
    channel: str
    order_no: str
    result: Result | None
    amount: int | None
    currency: str | None

    @property
    def id(self) -> str:
        return f"{self.channel}:{self.notice_id}:notified"

    @property
    def type(self) -> EventType:
        return EventType.NOTIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineRecorded:
    """A payment that was taken elsewhere, as the merchant told it. `reference`: the merchant's own number for it,
    without a colon; `amount` in minor units of `currency`; `paid_at_s` Unix seconds."""

    merchant: str
    reference: str
    at_us: int
    """When it was recorded."""
    amount: int
    currency: str
    method: OfflineMethod
    paid_at_s: int
    order_no: str | None = None
    store: str | None = None
    terminal: str | None = None
    note: str | None = None
    told_by: ToldBy
    actor: str = ""
    """Who, where it was an operator."""

    @property
    def id(self) -> str:
        return offline_id(self.merchant, self.reference)

    @property
    def type(self) -> EventType:
        return EventType.OFFLINE_RECORDED

    @property
    def money(self) -> Money:
        return Money(self.amount, self.currency)

    def says_the_same(self, other: OfflineRecorded) -> bool:
        """Whether both tell of the same payment, whoever told it and when."""
        return replace(self, at_us=other.at_us, told_by=other.told_by, actor=other.actor) == other


def offline_id(merchant: str, reference: str) -> str:
    """The id of the record of a merchant's reference: there is one of each."""
    return f"offline:{merchant}:{reference}"


Event: TypeAlias = Attempted | Ended | Notified | OfflineRecorded
_CLASSES: Mapping[EventType, type[Attempted | Ended | Notified | OfflineRecorded]] = {
    EventType.PAYMENT_ATTEMPTED: Attempted,
    EventType.PAYMENT_ACCEPTED: Ended,
    EventType.PAYMENT_SUCCEEDED: Ended,
    EventType.PAYMENT_REFUSED: Ended,
    EventType.PAYMENT_UNKNOWN: Ended,
    EventType.REFUNDED: Ended,
    EventType.NOTIFIED: Notified,
    EventType.OFFLINE_RECORDED: OfflineRecorded,
}
_ENUMS = {"operation": Operation, "result": Result, "told_by": ToldBy, "method": OfflineMethod}


def result_of(outcome: Outcome) -> Result:
    return Result(outcome.value)


def encode(event: Event) -> str:
    """One line of JSON: `type`, `version`, `id`, `data`."""
    data = {one.name: getattr(event, one.name) for one in fields(event)}
    document = {"type": event.type, "version": VERSION, "id": event.id, "data": data}
    return json.dumps(document, separators=(",", ":"))


def decode(text: str | bytes) -> Event:
    """Raises ValueError for what is no event of a version known here."""
    try:
        document: dict[str, Any] = json.loads(text)
        if document["version"] != VERSION:
            raise ValueError(f"an event of version {document['version']}, known is {VERSION}")
        data = document["data"]
        for name, made in _ENUMS.items():
            if data.get(name) is not None:
                data[name] = made(data[name])
        return _CLASSES[EventType(document["type"])](**data)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {type(error).__name__}") from error
