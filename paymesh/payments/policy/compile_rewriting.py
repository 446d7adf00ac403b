"""Owns what of a request's head a route may have written anew. Refuses what would forge, misframe or unsign a request.

A service may verify a caller's signature itself, as it did before there was a gateway: what a signature covers stays.
"""

from __future__ import annotations

from collections.abc import Iterator

from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy.callers import Scheme
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.forwarding import Rewriting
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.policy.route_checks import REMOVED_HEADERS, Problem

UNSIGNED = frozenset({Scheme.JWT, Scheme.MTLS})
"""Their proof is no signature of the request."""
_FRAMING = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "keep-alive"}
    | {"upgrade", "te", "trailer", "expect", "proxy-connection", "http2-settings"}
)
_PROOFS = ("authorization", "signature", "content-digest", "digest", "paymesh-", "wechatpay-", "alipay-")
"""Beginnings of the headers by which callers prove who they are."""


def compile_rewriting(document: d.RouteDocument, path: DocumentPath, findings: Findings) -> Rewriting:
    for place, message in _problems(document):
        findings.problem((*path, *place), message)
    return Rewriting(
        added=tuple((header.name, header.value) for header in document.request_headers_to_add),
        removed=document.request_headers_to_remove,
        prefix=document.prefix_rewrite,
        host=document.host_rewrite,
    )


def _problems(document: d.RouteDocument) -> Iterator[Problem]:
    names: set[str] = set()
    for number, header in enumerate(document.request_headers_to_add):
        for message in _header_problems(document, header.name, names):
            yield ("request_headers_to_add", number), message
    for number, name in enumerate(document.request_headers_to_remove):
        for message in _header_problems(document, name, names):
            yield ("request_headers_to_remove", number), message
        if Scheme.HTTP_SIGNATURE in document.schemes:
            yield ("request_headers_to_remove", number), "an HTTP message signature may cover it"
    yield from _path_problems(document)
    if document.host_rewrite is not None and document.service is None:
        yield ("host_rewrite",), "only on a route with a service: channels have their providers' hosts"
    elif document.host_rewrite is not None and Scheme.HTTP_SIGNATURE in document.schemes:
        yield ("host_rewrite",), "an HTTP message signature may cover it"


def _header_problems(document: d.RouteDocument, name: str, names: set[str]) -> Iterator[str]:
    if name in names:
        yield f"{name} is named twice"
    names.add(name)
    if name.startswith(REMOVED_HEADERS):
        yield "this header is the gateway's own: services believe it"
    elif name in _FRAMING:
        yield "it says where the request goes, or where and what its body is"
    elif name.startswith(_PROOFS) and (document.channels or not UNSIGNED.issuperset(document.schemes)):
        yield "by it a service or provider can verify the request: only without channels, where callers sign nothing"


def _path_problems(document: d.RouteDocument) -> Iterator[Problem]:
    there: DocumentPath = ("prefix_rewrite",)
    if document.prefix_rewrite is None:
        return
    if document.match.prefix is None:
        yield there, "only with match.prefix, in whose place it stands"
    elif document.match.prefix.endswith("/") != document.prefix_rewrite.endswith("/"):
        yield there, "ends as match.prefix does, with or without a slash: the rest of the path follows it"
    if document.operation in (c.Operation.PAY, c.Operation.REFUND, c.Operation.CLOSE, c.Operation.NOTIFY):
        yield there, f"not on a {document.operation} route: Envoy finds the words of its own answers by the path"
    elif not UNSIGNED.issuperset(document.schemes):
        yield there, "only where callers sign nothing (jwt, mtls, or no scheme): a signature covers the path"
    if document.prefix_rewrite.startswith("/v3/"):
        yield there, "paths below /v3/ are WeChat Pay's: Envoy's own answers would be in its words"
