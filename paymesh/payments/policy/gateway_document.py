"""Owns how `gateway` is written, what Envoy itself limits before and behind our checks, and what it compiles to."""

from __future__ import annotations

from pydantic import Field, StrictBool, StrictInt, model_validator

from paymesh.payments.policy.compiled import AdaptiveConcurrency, Gateway, LocalRateLimit
from paymesh.payments.policy.rate_limits import LimitMode
from paymesh.payments.policy.values import Document, Milliseconds


class LocalRateLimitDocument(Document):
    """A token bucket in each Envoy, asked before anything else: a flood costs no check. Coarse: it knows no caller,
    and is full again after every change of the policy or of a weight."""

    requests_per_second: StrictInt = Field(ge=1, le=1_000_000, description="Tokens that come back each second.")
    burst: StrictInt = Field(ge=1, le=10_000_000, description="Tokens the bucket holds when full.")
    mode: LimitMode = Field(LimitMode.ENFORCE, description="shadow: Envoy counts, and refuses nobody.")


class MinRttDocument(Document):
    """What an exchange takes while the services are idle. Exactly one of fixed_value and interval."""

    fixed_value: Milliseconds | None = Field(None, description="Known, such as 40ms.")
    interval: Milliseconds | None = Field(
        None,
        ge=1000,
        description="Measured so often: meanwhile no more than min_concurrency requests may be at work, and others are "
        "refused with 503.",
    )
    request_count: StrictInt = Field(50, ge=1, le=10_000, description="Requests that a measurement takes.")
    min_concurrency: StrictInt = Field(10, ge=1, le=10_000, description="Never fewer at work than these.")
    jitter: StrictInt = Field(10, ge=0, le=100, description="Percent of the interval, so that not all Envoys measure.")
    buffer: StrictInt = Field(25, ge=0, le=1000, description="Percent above it that is no sign of being slow.")

    @model_validator(mode="after")
    def _exactly_one(self) -> MinRttDocument:
        if (self.fixed_value is None) == (self.interval is None):
            raise ValueError("exactly one of fixed_value and interval is required")
        return self


class AdaptiveConcurrencyDocument(Document):
    """Envoy's adaptive concurrency: how many requests are at work together goes down while the services are slower than
    they can be. It measures all services of this gateway together: Envoy has it for a listener only."""

    sample_aggregate_percentile: StrictInt = Field(90, ge=1, le=100, description="Of the latencies in an interval.")
    concurrency_update_interval: Milliseconds = Field(100, ge=10, le=60_000, description="How often it changes.")
    max_concurrency_limit: StrictInt = Field(1000, ge=1, le=100_000, description="Never more than these.")
    min_rtt_calc_params: MinRttDocument


class GatewayDocument(Document):
    """What Envoy itself limits."""

    local_rate_limit: LocalRateLimitDocument | None = Field(None, description="Of all requests to this gateway.")
    adaptive_concurrency: AdaptiveConcurrencyDocument | None = None
    allow_fault_injection: StrictBool = Field(
        False, description="Whether routes may have fault_injection: never where real money moves."
    )


def compile_gateway(document: GatewayDocument | None) -> Gateway:
    if document is None:
        return Gateway()
    adaptive = document.adaptive_concurrency
    return Gateway(
        local_rate_limit=compile_local_rate_limit(document.local_rate_limit),
        adaptive_concurrency=None if adaptive is None else _adaptive(adaptive),
        allow_fault_injection=document.allow_fault_injection,
    )


def compile_local_rate_limit(document: LocalRateLimitDocument | None) -> LocalRateLimit | None:
    if document is None:
        return None
    return LocalRateLimit(document.requests_per_second, document.burst, document.mode is LimitMode.ENFORCE)


def _adaptive(document: AdaptiveConcurrencyDocument) -> AdaptiveConcurrency:
    rtt = document.min_rtt_calc_params
    return AdaptiveConcurrency(
        percentile=document.sample_aggregate_percentile,
        update_interval_ms=document.concurrency_update_interval,
        max_concurrency=document.max_concurrency_limit,
        min_concurrency=rtt.min_concurrency,
        fixed_min_rtt_ms=rtt.fixed_value,
        measure_every_ms=rtt.interval,
        measure_requests=rtt.request_count,
        jitter_percent=rtt.jitter,
        buffer_percent=rtt.buffer,
    )
