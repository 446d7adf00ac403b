"""Owns how rate limits are written. Which size fits which kind, and which key fits which route, is checked while
compiling (`compile_limits.py`)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StringConstraints, model_validator

from paymesh.payments.limits.latency import WHOLE
from paymesh.payments.policy.rate_limits import LimitKind, LimitMode, OnError
from paymesh.payments.policy.values import Currency, Document, Milliseconds, Name, Seconds

_MAX_BURST_SECONDS = 1_000_000_000
"""`burst` times the seconds of `per`: beyond it a Lua number in shared state would not be exact."""
KeyText = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_UTC_OFFSET = re.compile(r"[+-](0\d|1[0-4]):[0-5]\d", re.ASCII)


def _utc_offset(value: object) -> object:
    if not isinstance(value, str) or not _UTC_OFFSET.fullmatch(value):
        raise ValueError('an offset from UTC is written in quotes, such as "+08:00"')
    return value


UtcOffset = Annotated[str, BeforeValidator(_utc_offset)]
Rate = Annotated[StrictInt, Field(ge=1, le=1_000_000)]
Burst = Annotated[StrictInt, Field(ge=1, le=10_000_000)]


class WindowDocument(Document):
    """A token bucket: `requests` come back in each `per`, evenly."""

    requests: Rate = Field(description="How many come back in `per`; one at a time, not all at its end.")
    per: Seconds = Field(ge=1, le=86_400, description="Such as 1s, 1m, 1h or 1d.")
    burst: Burst | None = Field(None, description="What the bucket holds when full. Absent: as many as `requests`.")

    @model_validator(mode="after")
    def _exact(self) -> WindowDocument:
        if (self.burst or self.requests) * self.per > _MAX_BURST_SECONDS:
            raise ValueError("burst times the seconds of per is over 1,000,000,000: too many to be counted exactly")
        return self


class LimitSizeDocument(Document):
    """How much a limit allows: a rate, several rates that all have to hold, or a ceiling. Which one, its kind says."""

    requests_per_second: Rate | None = Field(None, description="Tokens that come back each second.")
    burst: Burst | None = Field(None, description="Tokens the bucket holds when full; with requests_per_second.")
    windows: tuple[WindowDocument, ...] = Field(
        (), max_length=4, description="Instead of requests_per_second: buckets that must all have a token."
    )
    max: StrictInt | None = Field(
        None,
        ge=1,
        le=1_000_000_000_000,
        description="Of concurrency: requests at once. Of daily_count: payments. Of daily_amount: minor units.",
    )

    @model_validator(mode="after")
    def _one_size(self) -> LimitSizeDocument:
        given = [self.requests_per_second is not None, bool(self.windows), self.max is not None]
        if given.count(True) != 1:
            raise ValueError("exactly one of requests_per_second, windows and max is required")
        if (self.requests_per_second is None) != (self.burst is None):
            raise ValueError("requests_per_second and burst come together")
        spans = [window.per for window in self.windows]
        if len(set(spans)) != len(spans):
            raise ValueError("two windows are of the same length: the smaller one decides alone")
        return self


class RateLimitDocument(LimitSizeDocument):
    """What requests that have `key` in common may do together. A request passes if every limit of its route allows
    it."""

    name: Name
    kind: LimitKind = Field(
        LimitKind.QPS,
        description="qps: all requests. tps: payments. concurrency: requests that are not over. daily_count and "
        "daily_amount: payments of a calendar day. latency: all requests, at a rate that shrinks while p95 is over a "
        "bound.",
    )
    key: tuple[KeyText, ...] = Field(
        ("merchant",),
        min_length=1,
        max_length=4,
        description="Every combination of these counts apart: merchant, user, route, operation, channel, service, "
        "version, app, client_ip (the address that Envoy sees), header:NAME, field:/POINTER (into the body; only its "
        "digest is kept), claim:NAME (of the verified token).",
    )
    tiers: dict[Name, LimitSizeDocument] = Field(
        default_factory=dict, description="Sizes for merchants of a tier. A merchant's own size goes before."
    )
    mode: LimitMode = Field(LimitMode.ENFORCE, description="shadow: counted and logged, never refused.")
    on_error: OnError = Field(
        OnError.LOCAL,
        description="While shared state cannot be asked. local: each ext_authz worker counts for itself; "
        "allow: not limited; deny: 503.",
    )
    count_refused: StrictBool = Field(
        False,
        description="A request that is refused takes a token all the same, down to one burst below empty: who does "
        "not slow down stays out.",
    )
    batch: StrictInt = Field(
        1,
        ge=1,
        le=10_000,
        description="Tokens that a worker takes ahead from shared state, so that most requests need not ask: up to "
        "workers x batch more are admitted in any span of time. 1: exact.",
    )
    currency: Currency | None = Field(None, description="Of daily_amount; payments in others are not counted by it.")
    utc_offset: UtcOffset = Field("+08:00", description="Where the calendar day begins, for daily_count, daily_amount.")
    p95: Milliseconds | None = Field(
        None, ge=1, le=60_000, description="Of latency: while the slowest 5% take longer than this, the rate shrinks."
    )
    window: Seconds = Field(5, ge=1, le=300, description="Of latency: how often the rate is judged.")
    floor: StrictInt = Field(
        1000, ge=1, le=WHOLE, description="Of latency: the rate never shrinks below this many ten-thousandths."
    )
