"""Owns `x-pay-split`: what Envoy hashes to choose a service's version, so that a merchant stays on one."""

from __future__ import annotations

import hashlib


def split_value(salt: str, caller: str | None, request_id: str) -> str:
    """Sixteen hex characters, the same for the same caller (a merchant, or else a user) and salt. Without a caller: the
    request's own."""
    # A missing hash header makes Envoy choose at random per request, so there is always one.
    text = f"{salt}\0{caller if caller is not None else request_id}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
