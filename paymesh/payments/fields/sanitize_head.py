"""Owns hiding fields in a request's head: its path, its query, its headers. The body goes another way (`sanitize.py`).

The target is replaced as a whole, since removing parameters one by one makes Envoy sort the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from paymesh.payments.bodies.body import read_query
from paymesh.payments.bodies.limits import Reading
from paymesh.payments.fields.hiding import hide, hide_in
from paymesh.payments.fields.sanitize import Change, edits_of
from paymesh.payments.policy.compiled import TEMPLATE_SEGMENT
from paymesh.payments.policy.field_rules import Place, SanitizeRule

_PLAIN_IN_PATH = "!$&'()*+,;=:@-._~"
"""RFC 3986 `pchar`: what stands in a segment unencoded."""


@dataclass(frozen=True, slots=True)
class Head:
    """What Envoy is to change before it sends the request on. `target` None: it stays."""

    target: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()


NO_CHANGES = Head()


def sanitize_head(
    target: str,
    template: str,
    headers: Mapping[str, tuple[str, ...]],
    reading: Reading,
    rules: tuple[SanitizeRule, ...],
    now_s: int,
) -> Head:
    """The changes. `template` is the route's path template. Raises BodyError for a query that cannot be read."""
    path, mark, query = target.partition("?")
    changed: list[Change] = []
    new_path = _path(path, template, [rule for rule in rules if rule.place is Place.PATH], now_s, changed)
    in_query = tuple(rule for rule in rules if rule.place is Place.QUERY)
    if query and in_query:
        read = read_query(query, reading)
        edits, found = edits_of(read, in_query, now_s)
        if edits:
            query = read.edit(edits).decode("ascii", "surrogateescape")
            mark = mark if query else ""
            changed += found
    replaced, removed = _headers(headers, [rule for rule in rules if rule.place is Place.HEADER], now_s, changed)
    new_target = f"{new_path}{mark}{query}"
    return Head(None if new_target == target else new_target, replaced, removed, tuple(changed))


def path_segments(path: str, template: str) -> dict[str, str]:
    """The named segments of a path, percent-decoded; empty if the path is not of this template."""
    names, segments = template.split("/"), path.split("/")
    if len(names) != len(segments):
        return {}
    found = ((TEMPLATE_SEGMENT.fullmatch(name), segment) for name, segment in zip(names, segments, strict=True))
    return {match[1]: unquote(segment, errors="replace") for match, segment in found if match is not None}


def _path(path: str, template: str, rules: list[SanitizeRule], now_s: int, changed: list[Change]) -> str:
    names, segments = template.split("/"), path.split("/")
    if not rules or len(names) != len(segments):
        return path
    for number, name in enumerate(names):
        rule = next((rule for rule in rules if rule.field is not None and name == f"{{{rule.field[0]}}}"), None)
        if rule is None:
            continue
        before = unquote(segments[number], errors="replace")
        after = hide(rule, before, now_s)
        # An empty segment would make another path of it.
        if after is not None and after != before:
            segments[number] = quote(after or "*", safe=_PLAIN_IN_PATH)
            changed.append(Change(rule))
    return "/".join(segments)


def _headers(
    headers: Mapping[str, tuple[str, ...]], rules: list[SanitizeRule], now_s: int, changed: list[Change]
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    replaced: list[tuple[str, str]] = []
    removed: list[str] = []
    for rule in rules:
        assert rule.field is not None  # a header's rule names it
        name = rule.field[0]
        if name not in headers or any(name == done for done, _ in replaced) or name in removed:
            continue
        hidden = _header(headers[name], rule, now_s)
        if hidden == headers[name]:
            continue
        changed.append(Change(rule))
        if hidden:
            # Repeated ones become one, as RFC 9110 section 5.3 allows.
            replaced.append((name, ", ".join(hidden)))
        else:
            removed.append(name)
    return tuple(replaced), tuple(removed)


def _header(values: tuple[str, ...], rule: SanitizeRule, now_s: int) -> tuple[str, ...]:
    if rule.detect:
        return tuple(hide_in(rule, value, now_s) for value in values)
    hidden = (hide(rule, value, now_s) for value in values)
    return tuple(value for value in hidden if value is not None)
