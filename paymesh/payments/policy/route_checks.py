"""Owns what a route may not be: whatever would leave a payment open, lost, changed or forged, each with its reason.

Pure: a route's document in, problems out (path inside the route, message).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from paymesh.payments.internal_names import INTERNAL_HEADER_PREFIX
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy.callers import NOTIFICATION_SCHEMES, Scheme
from paymesh.payments.policy.problems import DocumentPath

PROTOCOLS: Mapping[Scheme, c.Protocol] = {
    Scheme.WECHAT_V3: c.Protocol.WECHAT_V3,
    Scheme.WECHAT_V3_NOTIFICATION: c.Protocol.WECHAT_NOTIFICATION,
    Scheme.ALIPAY_V2: c.Protocol.ALIPAY_V2,
    Scheme.ALIPAY_V3: c.Protocol.ALIPAY_V3,
    Scheme.ALIPAY_NOTIFICATION: c.Protocol.ALIPAY_NOTIFICATION,
    Scheme.UNIONPAY: c.Protocol.UNIONPAY,
    Scheme.UNIONPAY_NOTIFICATION: c.Protocol.UNIONPAY_NOTIFICATION,
    Scheme.HMAC: c.Protocol.PAYMESH,
    Scheme.HTTP_SIGNATURE: c.Protocol.PAYMESH,
    Scheme.JWT: c.Protocol.PAYMESH,
    Scheme.MTLS: c.Protocol.PAYMESH,
}
"""The language of a scheme's refusals."""
FORM_SCHEMES = frozenset({Scheme.ALIPAY_V2, Scheme.UNIONPAY})
"""Their messages are parameters, not a JSON body, and tell operations apart by them."""
WITHOUT_NONCE = frozenset({Scheme.ALIPAY_V2, Scheme.UNIONPAY, Scheme.JWT, Scheme.MTLS})
"""An identical message may come again: only the order number tells a second payment from a repeated one."""

Problem = tuple[DocumentPath, str]
_OPEN = frozenset({c.Operation.OTHER, c.Operation.LOGIN})
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/{}-]*")
REMOVED_HEADERS = (INTERNAL_HEADER_PREFIX, "x-request-id", "x-envoy-")
"""Beginnings of the headers that Envoy removes from every request, and writes itself."""


def route_problems(document: d.RouteDocument, notified: Mapping[str, c.Notifications]) -> Iterator[Problem]:
    """Everything wrong with one route. `notified`: the channels whose notifications can be read, and how."""
    yield from _scheme_problems(document)
    if document.operation is c.Operation.PAY:
        yield from _pay_problems(document)
    elif document.operation in c.FOLLOWING and document.channels:
        yield from _following_problems(document)
    elif document.service is None:
        yield (), "service is required: only a route that goes by channels finds its service through one"
    if document.operation is c.Operation.NOTIFY:
        yield from _notify_problems(document, notified)
    elif document.operation not in (c.Operation.PAY, *c.FOLLOWING) and document.channels:
        yield ("channels",), f"a {document.operation} route goes by no channel: name its service"
    if document.fields.original_order_no is not None and document.operation is not c.Operation.REFUND:
        yield ("fields", "original_order_no"), "is of refund routes: elsewhere order_no is the payment's"
    if document.local_rate_limit is not None and document.match.signed_parameters:
        yield (
            ("local_rate_limit",),
            "Envoy asks it before signed parameters are known: it cannot tell these routes apart",
        )
    yield from _match_problems(document.match)


def _scheme_problems(document: d.RouteDocument) -> Iterator[Problem]:
    if not document.schemes and document.operation not in _OPEN:
        yield ("schemes",), f"a {document.operation} route without credentials would be open to anybody"
    if len({PROTOCOLS[scheme] for scheme in document.schemes}) > 1:
        yield ("schemes",), "these speak different protocols; refusals can speak only one: make two routes"
    notifies = document.operation is c.Operation.NOTIFY
    if notifies != bool(NOTIFICATION_SCHEMES & set(document.schemes)):
        yield ("schemes",), "notify routes, and only they, take a provider's notification scheme"
    if document.scopes and Scheme.JWT not in document.schemes:
        yield ("scopes",), "only a JWT has scopes"
    form = FORM_SCHEMES & set(document.schemes)
    if document.match.signed_parameters and not form:
        yield ("match", "signed_parameters"), "only Alipay v2 and UnionPay requests have signed parameters"
    if document.operation is c.Operation.REFUND and document.fields.order_no is None:
        weak = sorted(WITHOUT_NONCE & set(document.schemes))
        if weak:
            yield ("fields", "order_no"), f"is required: {weak[0]} has no nonce, so a refund could be sent twice"


def _pay_problems(document: d.RouteDocument) -> Iterator[Problem]:
    if not document.channels:
        yield ("channels",), "a pay route needs at least one channel"
    if document.service is not None:
        yield ("service",), "a pay route's service comes from the channel: remove this"
    # Alipay v2's SDKs pay with GET; nothing may cache or retry it here all the same.
    unfit = {"HEAD"} if Scheme.ALIPAY_V2 in document.schemes else {"GET", "HEAD"}
    if not document.match.methods or unfit & set(document.match.methods):
        yield ("match", "methods"), "a pay route names its methods, and they are not GET or HEAD"
    for name in ("order_no", "amount"):
        if getattr(document.fields, name) is None:
            yield ("fields", name), "is required on a pay route: channels are chosen by it"


def _following_problems(document: d.RouteDocument) -> Iterator[Problem]:
    if document.service is not None:
        yield ("service",), "the order's channel has the service: remove this, or the channels"
    number = "original_order_no" if document.operation is c.Operation.REFUND else "order_no"
    if getattr(document.fields, number) is None:
        yield ("fields", number), "is required: the request goes where that order was paid"


def _notify_problems(document: d.RouteDocument, notified: Mapping[str, c.Notifications]) -> Iterator[Problem]:
    if len(document.channels) != 1:
        yield ("channels",), "a notify route names the one channel whose notifications it takes"
    elif document.channels[0] not in notified:
        yield ("channels", 0), f"channel {document.channels[0]} has no usable notifications keys"
    elif document.schemes != (notified[document.channels[0]].scheme,):
        yield ("schemes",), f"channel {document.channels[0]} is notified by {notified[document.channels[0]].scheme}"


def _match_problems(match: d.MatchDocument) -> Iterator[Problem]:
    given = [value for value in (match.path, match.path_template, match.prefix) if value is not None]
    if len(given) != 1:
        yield ("match",), "exactly one of path, path_template and prefix is required"
    else:
        problem = _path_problem(given[0], templated=match.path_template is not None)
        if problem is not None:
            yield ("match",), problem
    for number, header in enumerate(match.headers):
        if header.name.startswith(REMOVED_HEADERS):
            yield ("match", "headers", number), "Envoy removes this header from every request: nobody may forge it"


def _path_problem(value: str, *, templated: bool) -> str | None:
    segments = value.split("/")[1:]
    braced = [segment for segment in segments if "{" in segment or "}" in segment]
    if not _PATH.fullmatch(value):
        return "a path begins with / and has no query, fragment, space or percent-encoding"
    if any(segment in (".", "..") for segment in segments) or "//" in value:
        return "Envoy normalises paths: one with //, /. or /.. never matches"
    if braced and not templated:
        return "{name} stands for a segment in path_template only"
    if templated and not any(c.TEMPLATE_SEGMENT.fullmatch(segment) for segment in segments):
        return "a path_template has at least one {name} as a whole segment"
    if not all(c.TEMPLATE_SEGMENT.fullmatch(segment) for segment in braced):
        return "{name} stands for a whole segment, its name in lower case"
    return None
