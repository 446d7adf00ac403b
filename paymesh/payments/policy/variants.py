"""Owns entry routes: one match that several routes share, told apart by parameters that only a signature proves.

Alipay v2 sends every operation to `/gateway.do`, its `method` perhaps in the body; UnionPay sends payments and refunds
to one path. Envoy matches the entry; ext_authz finds the variant once the signature has verified, and names it to
Envoy in `x-pay-route`. Refuses variants that could not all be handled alike until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy.field_rules import Validation
from paymesh.payments.policy.findings import Findings


def with_entries(
    documents: Sequence[d.RouteDocument], routes: Mapping[str, c.Route], findings: Findings
) -> list[c.Route]:
    """The routes as Envoy matches them, in document order: an entry in the place of its first variant."""
    groups: dict[c.RouteMatch, list[tuple[int, c.Route]]] = {}
    plain: dict[c.RouteMatch, int] = {}
    for index, document in enumerate(documents):
        route = routes[document.name]
        if route.signed_parameters:
            groups.setdefault(route.match, []).append((index, route))
        else:
            plain.setdefault(route.match, index)
    for match, members in groups.items():
        if match in plain:
            findings.problem(
                ("routes", plain[match], "match"),
                "other routes with this match have signed_parameters: without them this one would take their requests",
            )
        _check(members, findings)
    first = {members[0][1].name: members for members in groups.values()}
    found: list[c.Route] = []
    for document in documents:
        route = routes[document.name]
        if not route.signed_parameters:
            found.append(route)
        elif document.name in first:
            found.append(_entry([variant for _, variant in first[document.name]]))
    return found


def choose(entry: c.Route, parameters: Mapping[str, str]) -> c.Route | None:
    """The variant whose parameters all have their value; the most demanding one where several fit."""
    fitting = [
        variant
        for variant in entry.variants
        if all(parameters.get(name) == value for name, value in variant.signed_parameters)
    ]
    return max(fitting, key=lambda variant: len(variant.signed_parameters), default=None)


def _entry(variants: Sequence[c.Route]) -> c.Route:
    match = variants[0].match
    conditions = [f"{item.name}={item.exact or '*'}" for item in match.headers]
    conditions += [f"?{item.name}={item.exact or '*'}" for item in match.query_parameters]
    conditions += [f";{item.name}={item.exact or '*'}" for item in match.cookies]
    # No name that an operator may write has a slash or a space, so none can be the same.
    name = " ".join([",".join(sorted(match.methods)) or "*", match.path, *conditions])
    return replace(
        variants[0],
        name=name,
        operation=c.Operation.OTHER,
        fields=c.Fields(),
        rate_limits=(),
        limits_known_late=False,
        channels=(),
        notifications=None,
        service=None,
        # What Envoy prepares before anybody knows which variant it is: all that one of them needs.
        sanitize_request=tuple(rule for variant in variants for rule in variant.sanitize_request),
        sanitize_response=tuple(rule for variant in variants for rule in variant.sanitize_response),
        sign_again=any(variant.sign_again for variant in variants),
        needs_body=any(variant.needs_body for variant in variants),
        sanitize_head=(),
        validation=Validation(),
        open_order=False,
        observe_response=any(variant.observe_response for variant in variants),
        timeout_ms=max(variant.timeout_ms for variant in variants),
        request_reading=max(
            (variant.request_reading for variant in variants), key=lambda reading: reading.limits.max_bytes
        ),
        scopes=frozenset(),
        users=(),
        idempotency_key=c.IdempotencyKey.OPTIONAL,
        signed_parameters=(),
        variants=tuple(variants),
    )


def _check(members: Iterable[tuple[int, c.Route]], findings: Findings) -> None:
    seen: dict[tuple[tuple[str, str], ...], str] = {}
    schemes: tuple[object, ...] | None = None
    for index, route in members:
        path = ("routes", index)
        if route.signed_parameters in seen:
            other = seen[route.signed_parameters]
            findings.problem((*path, "match", "signed_parameters"), f"route {other} has the same match and parameters")
        seen[route.signed_parameters] = route.name
        if schemes is None:
            schemes = route.schemes
        elif route.schemes != schemes:
            findings.problem((*path, "schemes"), "routes with one match have the same schemes, in the same order")
