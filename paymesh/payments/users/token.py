"""Owns finding a user's token in a request. Refuses one that came twice or could be read in two ways."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from paymesh.payments.denial import Denial, Reason
from paymesh.payments.request import Request
from paymesh.payments.users.providers import TokenFrom

MAX_TOKEN_CHARS = 8192
_MAX_PARAMETERS = 200
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""RFC 6750 section 2.1."""
_TOKEN = re.compile(r"[\x21-\x2b\x2d-\x7e]+", re.ASCII)
"""Visible ASCII (RFC 6749 appendix A) without the comma, which is where two headers were joined."""


def read_token(request: Request, place: TokenFrom) -> str | Denial | None:
    """The token; None where there is none (another kind of `Authorization` is none)."""
    if place.header is not None:
        return _from_header(request, place.header)
    assert place.query is not None  # exactly one is set
    return _from_query(request, place.query)


def _from_header(request: Request, name: str) -> str | Denial | None:
    values = request.headers.get(name, ())
    if len(values) > 1:
        return Denial(Reason.USER_INVALID, f"header {name} came more than once")
    if not values or not values[0]:
        return None
    if name != "authorization":
        return _checked(values[0], _TOKEN)
    kind, _, rest = values[0].partition(" ")
    return _checked(rest.strip(" "), _BEARER_TOKEN) if kind.lower() == "bearer" else None


def _from_query(request: Request, name: str) -> str | Denial | None:
    try:
        pairs = parse_qsl(
            request.query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS, separator="&"
        )
    except ValueError:
        return Denial(Reason.USER_INVALID, "the query is not well formed")
    values = [value for found, value in pairs if found == name]
    if len(values) > 1:
        return Denial(Reason.USER_INVALID, f"query parameter {name} came more than once")
    return _checked(values[0], _TOKEN) if values and values[0] else None


def _checked(token: str, form: re.Pattern[str]) -> str | Denial:
    if len(token) > MAX_TOKEN_CHARS or not form.fullmatch(token):
        return Denial(Reason.USER_INVALID, "the user's token is not well formed")
    return token
