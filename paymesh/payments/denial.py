"""Owns why a request is not let through. `Denial` is a value; `Unavailable` is raised: it could not be decided."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass


class Reason(enum.StrEnum):
    """Stable names, sent to the caller as `x-pay-reason`. How each looks in a protocol: `refusals.py`."""

    ROUTE_UNKNOWN = "route_unknown"
    CREDENTIAL_MISSING = "credential_missing"
    CREDENTIAL_INVALID = "credential_invalid"
    """Unknown caller, unknown key and wrong signature alike: the caller never learns which; the log does."""
    CREDENTIAL_UNSUPPORTED = "credential_unsupported"
    """An algorithm that the protocol knows and this gateway does not verify."""
    NOT_PERMITTED = "not_permitted"
    """Known, and not allowed: route, operation, scope, or somebody else's app id or merchant number."""
    USER_MISSING = "user_missing"
    USER_INVALID = "user_invalid"
    TIMESTAMP_EXPIRED = "timestamp_expired"
    NONCE_REPLAYED = "nonce_replayed"
    IDEMPOTENCY_KEY_MISSING = "idempotency_key_missing"
    IDEMPOTENCY_KEY_INVALID = "idempotency_key_invalid"
    ORDER_IN_PROGRESS = "order_in_progress"
    """The first attempt is not over yet."""
    ORDER_CONFLICT = "order_conflict"
    """The same order number or idempotency key with another payload."""
    ORDER_UNKNOWN = "order_unknown"
    """A notification about an order that never passed here."""
    ORDER_PAID = "order_paid"
    """The order is known here as paid already."""
    ORDER_CLOSED = "order_closed"
    ORDER_MISMATCH = "order_mismatch"
    """A notification whose amount, app or seller is not the order's."""
    RATE_LIMITED = "rate_limited"
    BODY_MALFORMED = "body_malformed"
    BODY_DUPLICATE_KEY = "body_duplicate_key"
    BODY_TOO_LARGE = "body_too_large"
    CONTENT_UNSUPPORTED = "content_unsupported"
    FIELD_INVALID = "field_invalid"
    CHANNEL_NONE = "channel_none"
    UNAVAILABLE = "unavailable"
    """Nobody decided: an outage, never a refusal."""


@dataclass(frozen=True, slots=True)
class LimitTold:
    """The rate limit that refused: `quota` in `window_s` seconds, the time its bucket takes to fill or a day; None
    where it counts what is in flight."""

    name: str
    quota: int
    window_s: int | None


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal. `detail` is for the log and for `paymesh explain`: it names fields and causes, never values."""

    reason: Reason
    detail: str
    told: tuple[str, ...] = ()
    """What the caller can mend, shown to it: fields and what is wrong with each, never values."""
    retry_after_s: int | None = None
    limit: LimitTold | None = None
    hint: str | None = dataclasses.field(default=None, repr=False)
    """For a sandbox merchant: the string that should have been signed."""


class Unavailable(Exception):  # noqa: N818 - the design's word
    """It could not be decided. The caller gets 503, whatever the step."""
