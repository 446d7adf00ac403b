"""Owns what a release's analysis looks at, as frozen values: what is counted where, and how much worse is too much."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pydantic import ConfigDict

from paymesh.payments.releases.analysis import LatencyRule, RateRule

STRICT = ConfigDict(extra="forbid")
"""So that members of a union are told apart when they are read."""


class Counting(enum.StrEnum):
    """What a rate is of. Those of Envoy's load reports count answers below 500; the others come from its access log."""

    REQUESTS = "requests"
    """Envoy's load reports: answered, and not with 500 or above."""
    PAYMENTS = "payments"
    """Payments that say something about the service: it did its part, or it failed. The payer's faults do not count."""
    OUTCOME = "outcome"
    """Requests without this outcome, of all of this operation: a business counter that may rise by so much."""


@dataclass(frozen=True, slots=True)
class RateCheck:
    """`operation`, `outcome`: of a business counter; empty: of any."""

    __pydantic_config__ = STRICT

    rule: RateRule
    counting: Counting
    operation: str = ""
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class LatencyCheck:
    """By the service's own time to its first byte of an answer."""

    __pydantic_config__ = STRICT

    rule: LatencyRule


@dataclass(frozen=True, slots=True)
class PrometheusCheck:
    """An instant query that gives one number; FAIL outside of its bounds, INCONCLUSIVE without a number.

    `query` holds `{{service}}`, `{{stable}}`, `{{target}}` and `{{window}}` for what they stand for. Bounds are
    decimals as text; None: unbounded there.
    """

    __pydantic_config__ = STRICT

    name: str
    url: str
    query: str
    at_least: str | None
    at_most: str | None
    timeout_ms: int = 2_000


@dataclass(frozen=True, slots=True)
class WebhookCheck:
    """Asked by POST; its JSON answer has `verdict`: pass, fail or inconclusive, and may have `why`."""

    __pydantic_config__ = STRICT

    name: str
    url: str
    timeout_ms: int = 2_000


Check = RateCheck | LatencyCheck | PrometheusCheck | WebhookCheck


@dataclass(frozen=True, slots=True)
class Analysis:
    """All are made every `every_s` seconds of what came since the step began, at most `window_s` back."""

    checks: tuple[Check, ...]
    every_s: int = 5
    window_s: int = 900
