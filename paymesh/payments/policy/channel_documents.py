"""Owns how channels' fees, cards and opening hours are written, and how a route chooses among its channels. What spans
several of these, such as names of channels, is checked while compiling (`compile_channels.py`)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StrictInt, StringConstraints, model_validator

from paymesh.payments.fees import CardType, RefundRule
from paymesh.payments.money import MAX_MINOR_UNITS
from paymesh.payments.policy.limit_documents import UtcOffset
from paymesh.payments.policy.values import Currency, Document, Identifier, Name, Seconds, Weight

_RATE = re.compile(r"(?:\d{1,2}(?:\.\d{1,6})?|100(?:\.0{1,6})?)%", re.ASCII)
_TIME = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d|24:00", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}(?:[Tt]\d{2}:\d{2}:\d{2}(?:[Zz]|[+-]\d{2}:\d{2}))?", re.ASCII)
_BIN = re.compile(r"\d{1,8}", re.ASCII)


def _rate(value: object) -> object:
    if not isinstance(value, str) or not _RATE.fullmatch(value):
        raise ValueError("a rate is a percentage such as 0.6%, of at most six decimals")
    return value


def _time(value: object) -> object:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError("a time of day is hours and minutes, such as 09:00; 24:00 is the day's end")
    return value


def _day_or_moment(value: object) -> object:
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise ValueError("a day such as 2026-11-01, or a moment with its offset such as 2026-11-01T08:00:00+08:00")
    return value


def _bin(value: object) -> object:
    if not isinstance(value, str) or not _BIN.fullmatch(value):
        raise ValueError("the beginning of a card number is 1 to 8 digits in quotes, such as '62'")
    return value


RateText = Annotated[str, BeforeValidator(_rate)]
TimeOfDay = Annotated[str, BeforeValidator(_time)]
DayOrMoment = Annotated[str, BeforeValidator(_day_or_moment)]
Bin = Annotated[str, BeforeValidator(_bin)]
MinorUnits = Annotated[StrictInt, Field(ge=0, le=MAX_MINOR_UNITS)]
PartName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")]


class FeeTermsDocument(Document):
    """A fee is the rate's part of the amount, rounded half up to the minor unit, and the fixed part; then bounded."""

    rate: RateText = Field(description="Such as 0.6%.")
    fixed: MinorUnits = Field(0, description="Added to each payment's fee, minor units.")
    minimum: MinorUnits = Field(0, description="The least that a payment costs, minor units.")
    cap: MinorUnits | None = Field(None, description="The most that it costs, minor units.")

    @model_validator(mode="after")
    def _bounds_fit(self) -> FeeTermsDocument:
        if self.cap is not None and self.cap < self.minimum:
            raise ValueError("cap is below minimum")
        return self


class FeeTierDocument(FeeTermsDocument):
    from_amount: StrictInt = Field(
        ge=1, le=MAX_MINOR_UNITS, description="Payments of this and more, their whole amount."
    )


class FeeCardsDocument(Document):
    debit: FeeTermsDocument | None = None
    credit: FeeTermsDocument | None = None


class FeePromotionDocument(FeeTermsDocument):
    name: PartName
    valid_from: DayOrMoment = Field(description="A day, or a moment with its offset.")
    valid_until: DayOrMoment = Field(description="Inclusive: a day to its end.")
    cards: tuple[CardType, ...] | None = Field(None, min_length=1, description="Of these cards only; absent: of all.")


class FeeScheduleDocument(FeeTermsDocument):
    """What a channel charges in one currency. Of several parts one counts: a promotion, else the card's type, else the
    highest tier that the amount reaches, else the standard rate."""

    id: Name = Field(description="Kept with each payment, so that a later change is told from this one.")
    currency: Currency = "CNY"
    tiers: tuple[FeeTierDocument, ...] = ()
    cards: FeeCardsDocument = FeeCardsDocument()
    promotions: tuple[FeePromotionDocument, ...] = Field((), description="The first one that holds counts.")
    utc_offset: UtcOffset = Field("+08:00", description="Where the days of promotions begin.")
    refund: RefundRule = Field(
        RefundRule.PROPORTIONAL,
        description="proportional: of the fee comes back as much as of the payment. kept: nothing. full: all of it, "
        "with the first refund.",
    )


class CardsDocument(Document):
    """Of which a payment's card must be one. The route says where the card stands (`fields.card_no`, `card_type`)."""

    types: tuple[CardType, ...] | None = Field(None, min_length=1)
    bins: tuple[Bin, ...] | None = Field(
        None, min_length=1, description="Beginnings of card numbers, up to eight digits, in quotes."
    )

    @model_validator(mode="after")
    def _something(self) -> CardsDocument:
        if self.types is None and self.bins is None:
            raise ValueError("at least one of types and bins is required")
        return self


class OpenDocument(Document):
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = Field(
        ("mon", "tue", "wed", "thu", "fri", "sat", "sun"), min_length=1
    )
    opens: TimeOfDay = Field(description="Such as 09:00.")
    closes: TimeOfDay = Field(description="Such as 21:30 or 24:00; up to `opens`: on the next day.")


class HoursDocument(Document):
    """The week's opening hours; outside them the channel takes nothing."""

    utc_offset: UtcOffset = "+08:00"
    open: tuple[OpenDocument, ...] = Field(min_length=1, max_length=50)


class WhenDocument(Document):
    """All of it must fit; what is absent always does."""

    products: tuple[Name, ...] | None = Field(None, min_length=1)
    currencies: tuple[Currency, ...] | None = Field(None, min_length=1)
    merchants: tuple[Identifier, ...] | None = Field(None, min_length=1)
    tiers: tuple[Name, ...] | None = Field(None, min_length=1, description="Tiers of merchants.")
    min_amount: MinorUnits | None = Field(None, description="Minor units, included.")
    max_amount: MinorUnits | None = Field(None, description="Minor units, included.")
    cards: CardsDocument | None = None

    @model_validator(mode="after")
    def _bounds_fit(self) -> WhenDocument:
        if self.min_amount is not None and self.max_amount is not None and self.max_amount < self.min_amount:
            raise ValueError("max_amount is smaller than min_amount: no payment would fit")
        return self


class ChannelRuleDocument(Document):
    when: WhenDocument = Field(WhenDocument(), description="Absent: every payment.")
    prefer: tuple[Name, ...] | None = Field(None, min_length=1, description="These go before the others.")
    only: tuple[Name, ...] | None = Field(None, min_length=1, description="No other takes such a payment.")

    @model_validator(mode="after")
    def _one_of_them(self) -> ChannelRuleDocument:
        if (self.prefer is None) == (self.only is None):
            raise ValueError("exactly one of prefer and only is required")
        return self


class RulesStrategyDocument(Document):
    """The first rule that is about a payment counts."""

    strategy: Literal["rules"]
    rules: tuple[ChannelRuleDocument, ...] = Field(min_length=1)


class PriorityStrategyDocument(Document):
    """Those of the lowest `priority`."""

    strategy: Literal["priority"]


class WeightedStrategyDocument(Document):
    """One, by shares; the same one for the same order number."""

    strategy: Literal["weighted"]
    weights: dict[Name, Weight] = Field(min_length=1, description="Percent by channel, 100 together.")


class LowestCostStrategyDocument(Document):
    """Those whose fee for this payment is lowest."""

    strategy: Literal["lowest_cost"]


Window = Annotated[Seconds, Field(ge=5, le=3600)]
Samples = Annotated[StrictInt, Field(ge=1, le=1_000_000)]


class SuccessRateStrategyDocument(Document):
    """Those whose payments succeed most. A payer's own fault, such as too little money, does not count."""

    strategy: Literal["success_rate"]
    window: Window = Field(
        60, description="The span that is judged; up to ten times it where it holds fewer than min_samples."
    )
    min_samples: Samples = Field(20, description="With fewer outcomes a channel counts as one of the best.")
    band: Weight = Field(200, description="Percent below the best inside which the next strategy decides.")
    explore: Weight = Field(500, description="Percent of the orders that try another channel than the best.")


class EliminateStrategyDocument(Document):
    """Those that are not failing. A channel is out after failures; probes bring it back."""

    strategy: Literal["eliminate"]
    failures: Annotated[StrictInt, Field(ge=1, le=1000)] | None = Field(None, description="Out after so many in a row.")
    failure_rate: Weight | None = Field(None, description="Out when more than this percent in the window failed.")
    window: Window = Field(60, description="The span that failure_rate is about.")
    min_samples: Samples = Field(20, description="With fewer outcomes failure_rate puts nobody out.")
    pause: Annotated[Seconds, Field(ge=1, le=3600)] = Field(10, description="Before the first probe, such as 10s.")
    probe_share: Weight = Field(100, description="Percent of the orders that probe a channel which is out.")
    probe_successes: StrictInt = Field(10, ge=1, le=1000, description="So many in a row bring it back.")
    when_all_out: Literal["try", "refuse"] = Field(
        "try",
        description="try: they take payments all the same. refuse: nobody is left, and default decides, or 503.",
    )

    @model_validator(mode="after")
    def _a_reason(self) -> EliminateStrategyDocument:
        if self.failures is None and self.failure_rate is None:
            raise ValueError("at least one of failures and failure_rate is required")
        if self.probe_share == 0:
            raise ValueError("without probes (probe_share) a channel that is out never comes back")
        return self


class DefaultStrategyDocument(Document):
    """This one, if nobody is left and it may take the payment at all."""

    strategy: Literal["default"]
    channel: Name


StrategyDocument = Annotated[
    RulesStrategyDocument
    | PriorityStrategyDocument
    | WeightedStrategyDocument
    | LowestCostStrategyDocument
    | SuccessRateStrategyDocument
    | EliminateStrategyDocument
    | DefaultStrategyDocument,
    Field(discriminator="strategy"),
]
