"""Owns which routes are tried first, and that each can be reached. Refuses matches whose every request another takes.

The order, most specific first:
1. the path: `path`, then `path_template`, then `prefix`. Of two templates the one with fewer `{name}`s goes first, then
   the one whose plain text begins earlier; of two prefixes the longer one;
2. the number of other conditions: each header, cookie and query parameter, and `methods` as one;
3. those of them that name a value (`exact`), which asks for more than being present;
4. fewer methods.
Routes that are equal in all of this stand in the order of the documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from paymesh.payments.policy.compiled import TEMPLATE_SEGMENT, PathKind, Route, RouteMatch

_ANY_METHOD = 1000


class Shadowed(NamedTuple):
    """A route that no request reaches, and those before it that take its requests."""

    route: Route
    by: tuple[Route, ...]


def specificity(route: Route) -> tuple[object, ...]:
    """Sort key, most specific first; the sort is stable."""
    match = route.match
    conditions = _conditions(match)
    return (
        match.path_kind,
        _path_rank(match),
        -(len(conditions) + bool(match.methods)),
        -sum(exact is not None for _, _, exact in conditions),
        len(match.methods) or _ANY_METHOD,
    )


def shadowed(ordered: Sequence[Route]) -> Iterator[Shadowed]:
    """Routes of which nothing is left for what stands before them, `ordered` by `specificity`.

    Nothing is guessed of overlapping paths: only one and the same path can be taken away whole, since a route of a
    wider one stands later.
    """
    same: dict[tuple[object, ...], list[Route]] = {}
    for route in ordered:
        path, own = _same_path(route.match), _conditions(route.match)
        # Whoever takes its requests asks for nothing that it does not ask for: found by its first condition, if any.
        keys = [(*path, None), *((*path, key) for kind, name, exact in own for key in _implied_by(kind, name, exact))]
        before = [other for key in dict.fromkeys(keys) for other in same.get(key, ())]
        takes = [other for other in before if _asks_no_more(other.match, route.match)]
        whole = [other for other in takes if _has_methods(other.match.methods, route.match.methods)]
        if whole:
            yield Shadowed(route, (whole[0],))
        elif route.match.methods and route.match.methods <= _methods(takes):
            yield Shadowed(route, tuple(other for other in takes if other.match.methods & route.match.methods))
        same.setdefault((*path, own[0] if own else None), []).append(route)


def _conditions(match: RouteMatch) -> list[tuple[str, str, str | None]]:
    """All but path and methods: kind, name, value."""
    return [
        (kind, condition.name, condition.exact)
        for kind, conditions in (("h", match.headers), ("c", match.cookies), ("q", match.query_parameters))
        for condition in conditions
    ]


def _implied_by(kind: str, name: str, exact: str | None) -> tuple[tuple[str, str, str | None], ...]:
    """What holds wherever this condition holds."""
    return ((kind, name, exact), (kind, name, None))


def _path_rank(match: RouteMatch) -> tuple[int, ...]:
    if match.path_kind is PathKind.EXACT:
        return ()
    if match.path_kind is PathKind.PREFIX:
        return (-len(match.path),)
    named = [int(TEMPLATE_SEGMENT.fullmatch(segment) is not None) for segment in match.path.split("/")]
    return (sum(named), *named)


def _same_path(match: RouteMatch) -> tuple[PathKind, str]:
    """Templates are the same whatever their segments are called."""
    return match.path_kind, match.path_regex or match.path


def _asks_no_more(one: RouteMatch, other: RouteMatch) -> bool:
    """Whether each condition of `one`, its methods aside, holds wherever `other` matches."""
    there = {implied for condition in _conditions(other) for implied in _implied_by(*condition)}
    return there.issuperset(_conditions(one))


def _has_methods(one: frozenset[str], other: frozenset[str]) -> bool:
    return not one or (bool(other) and other <= one)


def _methods(routes: Iterable[Route]) -> frozenset[str]:
    return frozenset(method for route in routes for method in route.match.methods)
