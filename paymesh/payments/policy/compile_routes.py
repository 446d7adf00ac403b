"""Owns turning a written route into a compiled one, and which routes are tried first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paymesh.payments.bodies.pointer import JsonPointer
from paymesh.payments.outcome import READ
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy.compile_channels import compile_selection
from paymesh.payments.policy.compile_fields import compile_route_fields
from paymesh.payments.policy.compile_forwarding import compile_forwarding
from paymesh.payments.policy.compile_limits import are_known_late, check_limits_of_route
from paymesh.payments.policy.field_documents import FieldsDocument
from paymesh.payments.policy.field_rules import KeyRing
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.gateway_document import compile_local_rate_limit
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.policy.rate_limits import RateLimit, limits_read_body
from paymesh.payments.policy.route_checks import PROTOCOLS, route_problems
from paymesh.payments.policy.route_order import shadowed

OBSERVED = frozenset({c.Operation.PAY, c.Operation.QUERY, c.Operation.REFUND, c.Operation.CLOSE})


_NOTATIONS: Mapping[c.Protocol, c.AmountNotation] = {
    c.Protocol.ALIPAY_V2: c.AmountNotation.DECIMAL_TEXT,
    c.Protocol.ALIPAY_V3: c.AmountNotation.DECIMAL_TEXT,
    c.Protocol.ALIPAY_NOTIFICATION: c.AmountNotation.DECIMAL_TEXT,
    c.Protocol.UNIONPAY: c.AmountNotation.MINOR_UNITS_TEXT,
    c.Protocol.UNIONPAY_NOTIFICATION: c.AmountNotation.MINOR_UNITS_TEXT,
}
"""protocols.md section 1; every other protocol has integers."""


_APP_IDS: Mapping[c.Protocol, tuple[JsonPointer, ...]] = {c.Protocol.WECHAT_V3: (("appid",), ("sp_appid",))}
"""Elsewhere the credential itself proves the app id."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a route may name, compiled before it."""

    channels: Mapping[str, c.Channel]
    services: Mapping[str, c.Service]
    limits: Mapping[str, RateLimit]
    notifications: Mapping[str, c.Notifications]
    """By channel."""
    field_keys: Mapping[str, KeyRing] = field(default_factory=dict)


def compile_route(document: d.RouteDocument, path: DocumentPath, named: Named, findings: Findings) -> c.Route:
    """The route, whatever is wrong with it: `findings` decides whether it comes into force."""
    for place, message in route_problems(document, named.notifications):
        findings.problem((*path, *place), message)
    chosen = findings.lookup(document.channels, named.channels, "channel", (*path, "channels"))
    if document.service is not None and document.service not in named.services:
        findings.unknown((*path, "service"), "service", document.service, named.services)
    if document.operation in c.FOLLOWING:
        for number, channel in enumerate(chosen):
            if document.operation not in channel.operations:
                findings.problem((*path, "channels", number), f"channel {channel.name} does no {document.operation}")
    applied = findings.lookup(document.rate_limits, named.limits, "rate limit", (*path, "rate_limits"))
    services = {channel.service for channel in chosen} | ({document.service} if document.service else set())
    served_by = [named.services[name] for name in services if name in named.services]
    check_limits_of_route(applied, document, served_by, (*path, "rate_limits"), findings)
    protocol = PROTOCOLS[document.schemes[0]] if document.schemes else c.Protocol.PAYMESH
    about = compile_route_fields(document, path, protocol, named.field_keys, findings)
    told = document.operation in OBSERVED and protocol in READ
    observed = told if document.observe_response is None else document.observe_response
    notifies = document.operation is c.Operation.NOTIFY and document.channels
    selection = compile_selection(document, path, chosen, observed=observed, findings=findings)
    return c.Route(
        name=document.name,
        match=_match(document.match),
        operation=document.operation,
        schemes=document.schemes,
        protocol=protocol,
        fields=_fields(document.fields, protocol),
        rate_limits=tuple(applied),
        forwarding=compile_forwarding(document, path, named.services, findings),
        local_rate_limit=compile_local_rate_limit(document.local_rate_limit),
        limits_known_late=are_known_late(applied, document.operation),
        channels=tuple(sorted(chosen, key=lambda channel: channel.priority)),
        channel_selection=selection,
        notifications=named.notifications.get(document.channels[0]) if notifies else None,
        service=document.service,
        sanitize_request=about.sanitize_request,
        sanitize_head=about.sanitize_head,
        sanitize_response=about.sanitize_response,
        sign_again=document.sanitize.sign_again,
        unreadable_answers=document.sanitize.unreadable_answers,
        validation=about.validation,
        request_reading=about.request_reading,
        response_reading=about.response_reading,
        needs_body=about.needs_body or limits_read_body(applied),
        open_order=document.open_order,
        events_on_error=document.events_on_error,
        observe_response=observed,
        timeout_ms=document.timeout,
        scopes=frozenset(document.scopes),
        users=document.users,
        idempotency_key=document.idempotency_key,
        unknown_orders=document.unknown_orders,
        signed_parameters=tuple(sorted(document.match.signed_parameters.items())),
    )


def _match(document: d.MatchDocument) -> c.RouteMatch:
    kind, value = next(
        (kind, value)
        for kind, value in (
            (c.PathKind.EXACT, document.path),
            (c.PathKind.TEMPLATE, document.path_template),
            (c.PathKind.PREFIX, document.prefix),
            (c.PathKind.PREFIX, "/"),  # none given: a problem that was reported already
        )
        if value is not None
    )
    return c.RouteMatch(
        path_kind=kind,
        path=value,
        path_regex=_template_regex(value) if kind is c.PathKind.TEMPLATE else None,
        methods=frozenset(document.methods),
        headers=tuple(c.HeaderMatch(header.name, header.exact) for header in document.headers),
        query_parameters=tuple(c.QueryMatch(query.name, query.exact) for query in document.query_parameters),
        cookies=tuple(c.CookieMatch(cookie.name, cookie.exact) for cookie in document.cookies),
    )


def _fields(document: FieldsDocument, protocol: c.Protocol) -> c.Fields:
    given = {name: getattr(document, name) for name in FieldsDocument.model_fields}
    given["order_no"], *others = document.order_no or (None,)
    return c.Fields(
        **given,
        order_no_otherwise=tuple(others),
        app_id_if_there=_APP_IDS.get(protocol, ()),
        amount_notation=_NOTATIONS.get(protocol, c.AmountNotation.MINOR_UNITS),
    )


def _template_regex(template: str) -> str:
    """A pattern for the whole path that means the same to RE2 (Envoy's safe_regex) and to `re.fullmatch`."""
    return "/".join("[^/]+" if c.TEMPLATE_SEGMENT.fullmatch(part) else re.escape(part) for part in template.split("/"))


def check_order(documents: Sequence[d.RouteDocument], ordered: Sequence[c.Route], findings: Findings) -> None:
    """Each route has requests of its own. Names of entry routes stand for their first variant."""
    places: dict[str, int] = {}
    for index, document in enumerate(documents):
        places.setdefault(document.name, index)
    for route, by in shadowed(ordered):
        if by[0].match == route.match and (route.variants or by[0].variants):
            continue  # told with the reason where variants are gathered
        index, *others = (places[(one.variants or (one,))[0].name] for one in (route, *by))
        takers = " and ".join(
            f"{documents[other].name} ({findings.place(('routes', other, 'match'))})" for other in others
        )
        findings.problem(("routes", index, "match"), f"no request is left for it: every one is taken by {takers}")
