"""Owns asking an authorization server about an opaque token (RFC 7662). Refuses tokens for others and bound ones."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from urllib.parse import quote_plus, urlencode

from paymesh.payments.denial import Denial, Unavailable
from paymesh.payments.jose.claims import bound_problem, names_audience, numeric, read_scopes
from paymesh.payments.jose.fetch import HttpFetch
from paymesh.payments.users.answers import MAX_ANSWER_BYTES, read_object
from paymesh.payments.users.providers import IntrospectionProvider
from paymesh.payments.users.user import User, identified, lacks_scopes, not_valid


async def introspect(provider: IntrospectionProvider, token: str, fetch: HttpFetch, now_s: int) -> User | Denial:
    """Whose token it is. Raises Unavailable: a 401 means that our own credentials are wrong (section 2.3)."""
    response = await fetch.fetch(
        "POST",
        provider.url,
        {
            "accept": "application/json",
            "content-type": "application/x-www-form-urlencoded",
            "authorization": _basic(provider),
        },
        urlencode({"token": token, "token_type_hint": "access_token"}).encode(),
        provider.timeout_s,
        MAX_ANSWER_BYTES,
    )
    answer = read_object(response)
    active = answer.get("active")
    if not isinstance(active, bool):
        raise Unavailable("the introspection answer does not say whether the token is active")
    if not active:
        return not_valid("the token is not active")
    problem = _problem(provider, answer, now_s)
    if problem is not None:
        return not_valid(problem)
    subject, scopes = answer.get("sub"), read_scopes(answer)
    if not isinstance(subject, str) or scopes is None:
        return not_valid("the token names no subject, or its scopes are not well formed")
    refused = lacks_scopes(scopes, provider.required_scopes)
    if refused is not None:
        return refused
    return identified(User(subject, provider.name, _believed_until(provider, answer, now_s), scopes))


def _basic(provider: IntrospectionProvider) -> str:
    """Both parts are form-encoded first (RFC 6749 section 2.3.1)."""
    pair = f"{quote_plus(provider.client_id)}:{quote_plus(provider.client_secret.reveal())}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _problem(provider: IntrospectionProvider, answer: Mapping[str, object], now_s: int) -> str | None:
    for name in ("exp", "nbf"):
        if name in answer and numeric(answer[name]) is None:
            return f"the token's {name} is no date"
    expires, begins = numeric(answer.get("exp")), numeric(answer.get("nbf"))
    if expires is not None and expires <= now_s:
        return "the token has expired"
    if begins is not None and begins > now_s:
        return "the token is not valid yet"
    if provider.issuer is not None and answer.get("iss") != provider.issuer:
        return "the token is of another issuer"
    if provider.audiences and not names_audience(answer.get("aud"), provider.audiences):
        return "the token is for another audience"
    return bound_problem(answer)


def _believed_until(provider: IntrospectionProvider, answer: Mapping[str, object], now_s: int) -> int:
    expires = numeric(answer.get("exp"))
    longest = now_s + provider.cache_s
    return longest if expires is None else min(longest, math.floor(expires))
