"""Owns the compiled route's match as Envoy's: path, methods, headers, query parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from envoy_data_plane.envoy.config.route import v3 as route_v3
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from paymesh.payments.policy.compiled import PathKind, RouteMatch

_QUERY = r"(?:\?.*)?"


def envoy_match(match: RouteMatch, picked: Iterable[route_v3.HeaderMatcher] = ()) -> route_v3.RouteMatch:
    """`paymesh.payments.routing` must mean the same; the tests compare the two on generated requests.

    `picked`: headers that only ext_authz can have written.
    """
    headers = [*_methods(match), *(_header(item.name, item.exact) for item in match.headers)]
    headers += [*(cookie_header(item.name, item.exact) for item in match.cookies), *picked]
    queries = [
        route_v3.QueryParameterMatcher(name=item.name, present_match=True)
        if item.exact is None
        else route_v3.QueryParameterMatcher(name=item.name, string_match=matcher.StringMatcher(exact=item.exact))
        for item in match.query_parameters
    ]
    if match.path_kind is PathKind.EXACT:
        return route_v3.RouteMatch(path=match.path, headers=headers, query_parameters=queries)
    if match.path_kind is PathKind.PREFIX:
        return route_v3.RouteMatch(prefix=match.path, headers=headers, query_parameters=queries)
    regex = matcher.RegexMatcher(regex=match.path_regex or "")
    return route_v3.RouteMatch(safe_regex=regex, headers=headers, query_parameters=queries)


def exact_header(name: str, value: str) -> route_v3.HeaderMatcher:
    return route_v3.HeaderMatcher(name=name, string_match=matcher.StringMatcher(exact=value))


def path_and_query_regex(match: RouteMatch) -> str:
    """A pattern for `:path`, query included: that header is all that a local reply can look at."""
    if match.path_kind is PathKind.TEMPLATE:
        return f"{match.path_regex}{_QUERY}"
    if match.path_kind is PathKind.PREFIX:
        return f"{re.escape(match.path)}.*"
    return f"{re.escape(match.path)}{_QUERY}"


def _methods(match: RouteMatch) -> list[route_v3.HeaderMatcher]:
    methods = sorted(match.methods)
    if not methods:
        return []
    if len(methods) == 1:
        return [exact_header(":method", methods[0])]
    regex = matcher.RegexMatcher(regex="|".join(methods))
    return [route_v3.HeaderMatcher(name=":method", string_match=matcher.StringMatcher(safe_regex=regex))]


def cookie_header(name: str, exact: str | None) -> route_v3.HeaderMatcher:
    """By the header: Envoy 1.40 has a matcher for cookies, which older ones and gRPC pass over as an unknown field.
    They would send the request to a route whose condition does not hold."""
    value = "[^;]*" if exact is None else f"{re.escape(exact)}[ \\t]*"
    pattern = rf"(?:[^;]*;)*[ \t]*{re.escape(name)}={value}(?:;.*)?"
    regex = matcher.RegexMatcher(regex=pattern)
    return route_v3.HeaderMatcher(name="cookie", string_match=matcher.StringMatcher(safe_regex=regex))


def _header(name: str, exact: str | None) -> route_v3.HeaderMatcher:
    return route_v3.HeaderMatcher(name=name, present_match=True) if exact is None else exact_header(name, exact)
