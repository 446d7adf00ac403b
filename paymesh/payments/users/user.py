"""Owns what is known of a person once a provider vouched for them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

MAX_HEADER_CHARS = 256


@dataclass(frozen=True, slots=True)
class User:
    """A person as their provider names them. `expires_at_s`: Unix seconds until which that may be believed."""

    id: str
    provider: str
    expires_at_s: int
    scopes: frozenset[str] = frozenset()

    @property
    def header_value(self) -> str:
        """`provider:id`, percent-encoded to visible ASCII."""
        return f"{self.provider}:{quote(self.id, safe='-._~@')}"
