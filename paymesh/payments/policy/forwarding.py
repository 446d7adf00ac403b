"""Owns what is known of a route beyond who may call it: what Envoy repeats, and how long it waits.

Everything here is carried out by Envoy (DESIGN section 7); nothing here is read while a request is decided.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class RetryOn(enum.StrEnum):
    """When a request is sent again."""

    CONNECT_FAILURE = "connect_failure"
    """No connection came about."""
    RESET_BEFORE_REQUEST = "reset_before_request"
    """The connection broke before the request's headers had left."""
    REFUSED_STREAM = "refused_stream"
    """The service says that it did nothing with it (RFC 9113 section 8.7)."""
    GATEWAY_ERROR = "gateway_error"
    """Answered 502, 503 or 504, or not at all."""
    ANY_5XX = "5xx"
    """Answered 500 or above, or not at all."""


NOT_PROCESSED = frozenset({RetryOn.CONNECT_FAILURE, RetryOn.RESET_BEFORE_REQUEST, RetryOn.REFUSED_STREAM})
"""After these it is certain that no service did anything with the request."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts`: tries after the first one. Times in ms; `per_try_timeout_ms` None: a try has the route's timeout."""

    attempts: int
    retry_on: tuple[RetryOn, ...]
    per_try_timeout_ms: int | None
    base_interval_ms: int
    max_interval_ms: int


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to some requests on purpose, in the service's place. Shares are of 10,000; a time in ms.

    `headers`: only requests with all of these (name in lower case, value; None: present).
    """

    delay_ms: int | None
    delayed: int
    status: int | None
    aborted: int
    headers: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class DeclaredAnswer:
    """What Envoy says in a service's place."""

    status: int
    content_type: str
    body: str


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where copies go. `share`: of 10,000 requests."""

    service: str
    version: str
    share: int


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What of a request's head is written anew on its way out. Header names in lower case."""

    added: tuple[tuple[str, str], ...] = ()
    """In place of the caller's own of that name."""
    removed: tuple[str, ...] = ()
    prefix: str | None = None
    """In place of the match's prefix."""
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Forwarding:
    """How Envoy sends a route's requests on."""

    safe_to_repeat: bool = False
    """Its requests do no harm when they are seen twice."""
    idle_timeout_ms: int | None = None
    """The longest silence in an exchange; None: the timeout alone bounds it."""
    retry: RetryPolicy | None = None
    """None: nothing is sent twice."""
    fault: Fault | None = None
    fallback_answer: DeclaredAnswer | None = None
    """Given while the route's service has no healthy host."""
    fallback_service: str | None = None
    """Asked then; it has one version."""
    mirrors: tuple[Mirror, ...] = ()
    rewriting: Rewriting = Rewriting()


PLAIN = Forwarding()
