"""Owns the shape of a signed request before it is sent: exactly these bytes, nothing is encoded again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """`target` is path and query as on the wire; `headers` have the names that the protocol writes."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""
