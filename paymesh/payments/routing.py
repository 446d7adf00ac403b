"""Owns finding a request's route where Envoy did not tell it. Means exactly what Envoy means by the same match.

The comparison with the real router, on generated requests, is `tests/data_plane/test_router_agreement.py`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from paymesh.payments.policy.compiled import PathKind, Policy, Route, RouteMatch
from paymesh.payments.request import Request


def find_route(policy: Policy, request: Request) -> Route | None:
    """The first route that matches, most specific first; None if none does."""
    return next((route for route in policy.routes if matches(route.match, request)), None)


def matches(match: RouteMatch, request: Request) -> bool:
    if match.methods and request.method not in match.methods:
        return False
    if not _path_matches(match, request.path):
        return False
    for header in match.headers:
        # Of a repeated header, any one value will do: so Envoy 1.40 compares them (seen; older ones joined them).
        values = request.headers.get(header.name)
        if values is None or (header.exact is not None and header.exact not in values):
            return False
    if match.cookies and not _cookies_match(match, request):
        return False
    if not match.query_parameters:
        return True
    parameters = query_parameters(request.query)
    return all(
        query.name in parameters and (query.exact is None or parameters[query.name] == query.exact)
        for query in match.query_parameters
    )


def _cookies_match(match: RouteMatch, request: Request) -> bool:
    """Of a cookie that is there more than once, any will do; each `cookie` header is looked at by itself."""
    pairs = [part.strip(" \t") for value in request.headers.get("cookie", ()) for part in value.split(";")]
    return all(
        any(pair.startswith(f"{cookie.name}=") for pair in pairs)
        if cookie.exact is None
        else f"{cookie.name}={cookie.exact}" in pairs
        for cookie in match.cookies
    )


def _path_matches(match: RouteMatch, path: str) -> bool:
    if match.path_kind is PathKind.EXACT:
        return path == match.path
    if match.path_kind is PathKind.PREFIX:
        return path.startswith(match.path)
    assert match.path_regex is not None
    return _pattern(match.path_regex).fullmatch(path) is not None


@lru_cache(maxsize=4096)
def _pattern(regex: str) -> re.Pattern[str]:
    return re.compile(regex, re.ASCII)


def query_parameters(query: str) -> dict[str, str]:
    """First value of each parameter, not decoded: Envoy compares the raw text, and so do we."""
    found: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        found.setdefault(name, value)
    return found
