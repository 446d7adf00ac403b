"""Owns what is known of a person once a provider vouched for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote

from paymesh.payments.denial import Denial, Reason

MAX_HEADER_CHARS = 256


@dataclass(frozen=True, slots=True)
class User:
    """A person as their provider names them. `expires_at_s`: Unix seconds until which that may be believed."""

    id: str = field(repr=False)
    provider: str
    expires_at_s: int
    scopes: frozenset[str] = frozenset()

    @property
    def header_value(self) -> str:
        """`provider:id`, percent-encoded to visible ASCII."""
        return f"{self.provider}:{quote(self.id, safe='-._~@')}"


def identified(user: User) -> User | Denial:
    """The user, unless the id is empty or too long to be sent upstream."""
    try:
        fits = bool(user.id) and len(user.header_value) <= MAX_HEADER_CHARS
    except UnicodeEncodeError:
        fits = False
    return user if fits else not_valid("the user's id is empty, too long or not text")


def not_valid(detail: str) -> Denial:
    """The one refusal for a token that names nobody; `detail` is for the log and holds nothing of the token."""
    return Denial(Reason.USER_INVALID, detail)


def lacks_scopes(scopes: frozenset[str], required: frozenset[str]) -> Denial | None:
    """A refusal unless every required scope is there; it names those of the policy."""
    missing = required - scopes
    return Denial(Reason.NOT_PERMITTED, f"the user's token lacks scope {min(missing)}") if missing else None
