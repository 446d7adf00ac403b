"""Owns `x-pay-split`: what Envoy hashes to choose a service's version, so that a merchant stays on one."""

from __future__ import annotations

import hashlib


def split_value(salt: str, merchant: str | None, request_id: str) -> str:
    """Sixteen hex characters, the same for the same merchant and salt. Without a merchant: the request's own."""
    # A missing hash header makes Envoy choose at random per request, so there is always one.
    text = f"{salt}\0{merchant if merchant is not None else request_id}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
