"""Owns asking OpenID Connect's userinfo endpoint (Core section 5.3) whose access token it is.

The answer does not say for whom the token was made: one that the person gave to any other client of the same provider
is accepted as well. Where the provider has introspection or JWT access tokens, those are the better choice.
"""

from __future__ import annotations

import re

from paymesh.payments.denial import Denial, Unavailable
from paymesh.payments.jose.fetch import FetchResponse, HttpFetch
from paymesh.payments.users.answers import MAX_ANSWER_BYTES, read_object
from paymesh.payments.users.providers import UserinfoProvider
from paymesh.payments.users.user import User, identified, not_valid

_TOKEN_ERROR = re.compile(r'error="?(?:invalid_token|invalid_request|insufficient_scope)\b', re.ASCII)
"""RFC 6750 section 3.1."""


async def ask_userinfo(provider: UserinfoProvider, token: str, fetch: HttpFetch, now_s: int) -> User | Denial:
    """Whose token it is. Raises Unavailable."""
    response = await fetch.fetch(
        "GET",
        provider.url,
        {"accept": "application/json", "authorization": f"Bearer {token}"},
        b"",
        provider.timeout_s,
        MAX_ANSWER_BYTES,
    )
    if _refuses_the_token(response):
        return not_valid("the provider does not accept the token")
    subject = read_object(response).get("sub")
    if not isinstance(subject, str):
        raise Unavailable("the userinfo answer has no sub")
    return identified(User(subject, provider.name, now_s + provider.cache_s))


def _refuses_the_token(response: FetchResponse) -> bool:
    # A 400 or 403 may as well come from a gateway in front of the provider; then it says nothing of the token.
    if response.status in (400, 403):
        return _TOKEN_ERROR.search(response.headers.get("www-authenticate", "")) is not None
    return response.status == 401
