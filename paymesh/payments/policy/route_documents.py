"""Owns how what Envoy itself does for a route is written: by which cookies it matches, what it repeats, how it fails.

Keys are named as Envoy and Istio name them. Refuses I/O; what a route may not be is said in `compile_forwarding`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictInt, StringConstraints, model_validator

from paymesh.payments.policy.compiled import TOTAL_WEIGHT
from paymesh.payments.policy.forwarding import RetryOn
from paymesh.payments.policy.values import Document, Milliseconds, Name, Weight


class CookieMatchDocument(Document):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
    exact: Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x3a\x3c-\x7e]*$")] | None = Field(
        None, description="Absent: the cookie must be present. Compared as it is sent; quotes are no part of it."
    )


class RetryBackOffDocument(Document):
    """How long Envoy waits before it sends again: a random time that doubles with each attempt."""

    base_interval: Milliseconds = 25
    max_interval: Milliseconds = 250

    @model_validator(mode="after")
    def _ordered(self) -> RetryBackOffDocument:
        if self.max_interval < self.base_interval:
            raise ValueError("max_interval is at least base_interval")
        return self


class RetryPolicyDocument(Document):
    """When Envoy sends a request again, to another host if there is one. Pay, refund, close, login and notify routes
    repeat only what certainly no service processed: connect_failure, reset_before_request, refused_stream."""

    attempts: Annotated[StrictInt, Field(ge=1, le=5)] = Field(1, description="After the first one.")
    retry_on: tuple[RetryOn, ...] = Field((RetryOn.CONNECT_FAILURE, RetryOn.RESET_BEFORE_REQUEST), min_length=1)
    per_try_timeout: Milliseconds | None = Field(
        None,
        description="Of each attempt; smaller than timeout. Only with 5xx or gateway_error, which send again what it "
        "ends.",
    )
    retry_back_off: RetryBackOffDocument = RetryBackOffDocument()


HeaderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9!#$%&'*+.^_`|~-]+$")]


class FaultHeaderDocument(Document):
    name: HeaderName = Field(description="Lower case. Of the gateway's own headers only x-pay-merchant.")
    exact: str | None = Field(None, description="Absent: the header must be present.")


class FaultDelayDocument(Document):
    fixed_delay: Annotated[Milliseconds, Field(le=30_000)] = Field(description="Not part of the route's timeout.")
    percentage: Weight = Field(TOTAL_WEIGHT, description="Of the requests, in steps of 0.01.")


class FaultAbortDocument(Document):
    http_status: Annotated[StrictInt, Field(ge=500, le=599)] = Field(
        503,
        description="An outage, never a refusal: that would be read as the channel's word. Where the protocol's errors "
        "have one status, that one is sent.",
    )
    percentage: Weight = Field(TOTAL_WEIGHT, description="Of the requests, in steps of 0.01.")


class FaultInjectionDocument(Document):
    """What Envoy does on purpose to requests that were let in, before a service sees them: an aborted payment was not
    sent, and is recorded so. Only with `gateway.allow_fault_injection: true`."""

    delay: FaultDelayDocument | None = None
    abort: FaultAbortDocument | None = None
    headers: tuple[FaultHeaderDocument, ...] = Field((), description="Only requests with all of these.")

    @model_validator(mode="after")
    def _some_fault(self) -> FaultInjectionDocument:
        if self.delay is None and self.abort is None:
            raise ValueError("at least one of delay and abort is required")
        return self


class FallbackAnswerDocument(Document):
    status: Annotated[StrictInt, Field(ge=200, le=599)] = 200
    content_type: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e][\x20-\x7e]*$", max_length=128)] = (
        "application/json"
    )
    body: Annotated[str, StringConstraints(max_length=4096)] = Field(description="Sent as it is.")


class FallbackDocument(Document):
    """What a query or other route gives while its service has no healthy host: exactly one of answer and service. The
    service has health_check or outlier_detection, which say so, and no panic_threshold."""

    answer: FallbackAnswerDocument | None = Field(
        None,
        description="Sent with `x-pay-fallback: answer`. Of routes whose answers no provider signs and nobody "
        "observes: a query route says observe_response: false.",
    )
    service: Name | None = Field(None, description="Asked in its place; it has one version.")

    @model_validator(mode="after")
    def _exactly_one(self) -> FallbackDocument:
        if (self.answer is None) == (self.service is None):
            raise ValueError("exactly one of answer and service is required")
        return self


class RequestMirrorDocument(Document):
    """A copy of some requests to another service, whose answers nobody reads."""

    service: Name = Field(description="It has one version.")
    percentage: Weight = Field(TOTAL_WEIGHT, description="Of the requests, in steps of 0.01.")


class HeaderToAddDocument(Document):
    name: HeaderName = Field(description="Lower case.")
    value: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$", max_length=1024)] = (
        Field(description="Sent as it is, in place of the caller's own. No secrets: a policy is no place for them.")
    )


PathPrefix = Annotated[str, StringConstraints(pattern=r"^/([A-Za-z0-9._~!$&'()*+,;=:@-]+/?)*$", max_length=256)]


class ResponseCacheDocument(Document):
    """Refused wherever it stands: no cache of Envoy 1.40 keeps merchants' answers apart (decision 0015)."""
