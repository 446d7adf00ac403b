"""Owns turning written rate limits into compiled ones, and which of them a route, a merchant or a tier may have."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from paymesh.payments.bodies.pointer import parse_pointer
from paymesh.payments.limits.latency import LatencySettings
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy.callers import LimitSize, Scheme, TokenRate
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.limit_documents import LimitSizeDocument, RateLimitDocument
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.policy.rate_limits import Dimension, KeyPart, LimitKind, RateLimit

_NAMED = frozenset({Dimension.HEADER, Dimension.FIELD, Dimension.CLAIM})
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_BY_CHANNEL = frozenset({Dimension.CHANNEL, Dimension.SERVICE, Dimension.VERSION})
_KNOWN_LATE = frozenset({Dimension.USER, Dimension.CHANNEL, Dimension.FIELD, Dimension.APP})
"""Found out by steps after the credential's; on pay routes service and version too, which follow the channel."""


def compile_limit(document: RateLimitDocument, path: DocumentPath, findings: Findings) -> RateLimit:
    """The limit, whatever is wrong with it: `findings` decides whether it comes into force."""
    kind = document.kind
    key = tuple(
        part
        for number, text in enumerate(document.key)
        if (part := _key_part(text, (*path, "key", number), findings)) is not None
    )
    if len(set(key)) != len(key):
        findings.problem((*path, "key"), "names the same twice")
    _check_kind(document, path, findings)
    if kind is LimitKind.LATENCY and not {part.dimension for part in key} & {Dimension.SERVICE, Dimension.CHANNEL}:
        findings.problem((*path, "key"), "of a latency limit names service or channel: whose latency it goes by")
    return RateLimit(
        name=document.name,
        size=compile_size(kind, document, path, findings),
        kind=kind,
        key=key,
        mode=document.mode,
        on_error=document.on_error,
        tiers={
            name: compile_size(kind, size, (*path, "tiers", name), findings) for name, size in document.tiers.items()
        },
        count_refused=document.count_refused,
        batch=document.batch,
        latency=None if document.p95 is None else LatencySettings(document.p95, document.window, floor=document.floor),
        currency=document.currency or "CNY",
        day_begins_s=_seconds_east(document.utc_offset),
    )


def compile_size(kind: LimitKind, document: LimitSizeDocument, path: DocumentPath, findings: Findings) -> LimitSize:
    if kind.has_rate and document.max is not None:
        findings.problem((*path, "max"), f"a {kind} limit has requests_per_second or windows")
    if not kind.has_rate and document.max is None:
        findings.problem(path, f"a {kind} limit has max")
    if document.max is not None:
        return document.max
    if document.requests_per_second is not None and document.burst is not None:
        return (TokenRate(document.requests_per_second, 1, document.burst),)
    return tuple(TokenRate(one.requests, one.per, one.burst or one.requests) for one in document.windows)


def check_limits_of_route(
    limits: Sequence[RateLimit],
    document: d.RouteDocument,
    services: Collection[c.Service],
    path: DocumentPath,
    findings: Findings,
) -> None:
    """Refuses what a limit of this route would never know. `services`: where its requests may go."""
    for limit in limits:
        if limit.kind.of_payments and document.operation is not c.Operation.PAY:
            findings.problem(
                path, f"{limit.name} counts payments, and a route of operation {document.operation} has none"
            )
        for part in limit.key:
            unknown = _UNKNOWN.get(part.dimension, _always_known)(document, services)
            if unknown is not None:
                findings.problem(path, f"{limit.name} counts by {part.dimension}, and {unknown}")


def are_known_late(limits: Iterable[RateLimit], operation: c.Operation) -> bool:
    """Whether one of them needs what the request's fields, user or channel say."""
    late = _KNOWN_LATE | (_BY_CHANNEL if operation is c.Operation.PAY else frozenset())
    return any(
        limit.kind is LimitKind.DAILY_AMOUNT or any(part.dimension in late for part in limit.key) for limit in limits
    )


def check_override(limit: RateLimit, path: DocumentPath, findings: Findings) -> None:
    if not any(part.dimension is Dimension.MERCHANT for part in limit.key):
        findings.problem(path, f"{limit.name} is not counted by merchant: what it counts is not this merchant's own")


def _check_kind(document: RateLimitDocument, path: DocumentPath, findings: Findings) -> None:
    kind = document.kind
    if (document.p95 is not None) != (kind is LimitKind.LATENCY):
        message = "is required: the bound that p95 is held to" if document.p95 is None else "is a latency limit's"
        findings.problem((*path, "p95"), message)
    if (document.currency is not None) != (kind is LimitKind.DAILY_AMOUNT):
        message = "is required: two currencies have no sum" if document.currency is None else "is a daily_amount's"
        findings.problem((*path, "currency"), message)
    if not kind.has_rate:
        for name in ("count_refused", "batch"):
            if name in document.model_fields_set:
                findings.problem((*path, name), f"a {kind} limit has no tokens")


def _key_part(text: str, path: DocumentPath, findings: Findings) -> KeyPart | None:
    word, colon, name = text.partition(":")
    try:
        dimension = Dimension(word)
    except ValueError:
        known = ", ".join(one + (":..." if one in _NAMED else "") for one in Dimension)
        findings.problem(path, f"unknown key {word} (known: {known})")
        return None
    if bool(colon) != (dimension in _NAMED) or (colon and not name):
        findings.problem(path, f"is written {word}:NAME" if dimension in _NAMED else f"{word} has no name after it")
        return None
    if dimension is Dimension.HEADER and not _HEADER.fullmatch(name):
        findings.problem(path, "a header's name is in lower case, without spaces")
        return None
    if dimension is Dimension.FIELD:
        try:
            return KeyPart(dimension, name, parse_pointer(name))
        except ValueError as error:
            findings.problem(path, str(error))
            return None
    return KeyPart(dimension, name)


_Unknown = Callable[[d.RouteDocument, Collection[c.Service]], str | None]


def _always_known(_: d.RouteDocument, __: Collection[c.Service]) -> str | None:
    return None


def _merchant(route: d.RouteDocument, _: Collection[c.Service]) -> str | None:
    return None if route.schemes else "a route without schemes never knows one"


def _user(route: d.RouteDocument, _: Collection[c.Service]) -> str | None:
    return None if route.users else "the route asks no user provider"


def _claim(route: d.RouteDocument, _: Collection[c.Service]) -> str | None:
    return None if set(route.schemes) == {Scheme.JWT} else "only callers with a token have one: schemes: [jwt]"


def _channel(route: d.RouteDocument, _: Collection[c.Service]) -> str | None:
    return None if route.operation is c.Operation.PAY else "only a pay route selects one"


def _version(_: d.RouteDocument, services: Collection[c.Service]) -> str | None:
    if all(len(service.versions) == 1 for service in services):
        return None
    return (
        "Envoy chooses among several after this check: point its own rate-limit filter here instead "
        "(README, Envoy's own rate-limit filter)"
    )


_UNKNOWN: Mapping[Dimension, _Unknown] = {
    Dimension.MERCHANT: _merchant,
    Dimension.APP: _merchant,
    Dimension.USER: _user,
    Dimension.CLAIM: _claim,
    Dimension.CHANNEL: _channel,
    Dimension.VERSION: _version,
}


def _seconds_east(offset: str) -> int:
    seconds = int(offset[1:3]) * 3600 + int(offset[4:]) * 60
    return seconds if offset[0] == "+" else -seconds
