"""Owns why a request is not let through. `Denial` is a value; `Unavailable` is raised: it could not be decided."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Reason(enum.StrEnum):
    """Stable names, sent to the caller as `x-pay-reason`. How each looks in a protocol: `refusals.py`."""

    ROUTE_UNKNOWN = "route_unknown"
    CREDENTIAL_MISSING = "credential_missing"
    CREDENTIAL_INVALID = "credential_invalid"
    """Unknown caller, unknown key and wrong signature alike: the caller never learns which; the log does."""
    TIMESTAMP_EXPIRED = "timestamp_expired"
    NONCE_REPLAYED = "nonce_replayed"
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
class Denial:
    """A refusal. `detail` is for the log and for `paymesh explain`: it names fields and causes, never values."""

    reason: Reason
    detail: str
    field: str | None = None
    """JSON pointer of the offending field, shown to the caller."""
    retry_after_s: int | None = None


class Unavailable(Exception):  # noqa: N818 - the design's word
    """It could not be decided. The caller gets 503, whatever the step."""
