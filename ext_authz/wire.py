"""Owns the protobuf of ext_authz: CheckRequest in, CheckResponse out. Refuses to decide anything."""

from __future__ import annotations

from collections.abc import Mapping

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2
from envoy.type.v3 import http_status_pb2
from google.rpc import code_pb2, status_pb2

from ext_authz.check_context import CheckContext, Decision
from paymesh.payments import internal_names as names
from paymesh.payments.denial import Denial
from paymesh.payments.fields.sanitize_head import Head
from paymesh.payments.money import money_text
from paymesh.payments.notices import order_key
from paymesh.payments.policy.compiled import Operation, Route, Service
from paymesh.payments.refusals import Addressee, Refusal, known_method, protocol_of, write_refusal
from paymesh.payments.releases.pinned_merchants import decode_pinned
from paymesh.payments.request import Peer, Request
from paymesh.payments.split import split_value

_SPIFFE = "spiffe://"
SETTLING = (Operation.PAY, Operation.QUERY, Operation.CLOSE)
"""Operations whose success says something final of an order."""


def read_request(message: external_auth_pb2.CheckRequest) -> Request:
    """The HTTP request inside a CheckRequest. Repeated headers stay apart where `encode_raw_headers` is set."""
    attributes = message.attributes
    http = attributes.request.http
    headers = _headers(http)
    return Request(
        method=http.method,
        target=http.path,
        headers=headers,
        body=http.raw_body or http.body.encode(),
        request_id=next(iter(headers.get("x-request-id", ())), http.id),
        route_name=attributes.context_extensions.get(names.ROUTE_EXTENSION),
        client_address=attributes.source.address.socket_address.address,
        scheme=http.scheme,
        authority=http.host,
        peer=_peer(attributes.source),
        extensions=dict(attributes.context_extensions),
    )


def _peer(source: attribute_context_pb2.AttributeContext.Peer) -> Peer | None:
    """Who the handshake proved. Istio's provider sends no certificate; its SPIFFE ID is proof all the same."""
    proven = bool(source.certificate) or source.principal.startswith(_SPIFFE)
    return Peer(source.principal, source.certificate) if proven else None


def _headers(http: attribute_context_pb2.AttributeContext.HttpRequest) -> Mapping[str, tuple[str, ...]]:
    if not http.header_map.headers:
        return {name: (value,) for name, value in http.headers.items()}
    found: dict[str, tuple[str, ...]] = {}
    for header in http.header_map.headers:
        value = header.value or header.raw_value.decode("latin-1")
        found[header.key] = (*found.get(header.key, ()), value)
    return found


def write_response(decision: Decision, trace_parent: str | None) -> external_auth_pb2.CheckResponse:
    """The answer to Envoy: allow with our headers, or a refusal in the caller's protocol; metadata always."""
    response = external_auth_pb2.CheckResponse()
    response.dynamic_metadata.update(_metadata(decision, trace_parent))
    if decision.denial is None:
        response.status.CopyFrom(status_pb2.Status(code=code_pb2.OK))
        response.ok_response.headers.extend(_header(*pair) for pair in upstream_headers(decision))
        _change_head(response.ok_response, decision.context.head)
        return response
    refusal = refuse(decision, decision.denial)
    response.status.CopyFrom(status_pb2.Status(code=code_pb2.PERMISSION_DENIED))
    denied = response.denied_response
    denied.status.CopyFrom(http_status_pb2.HttpStatus(code=refusal.status))
    denied.headers.extend(_header(*pair) for pair in refusal.headers)
    denied.body = refusal.body.decode()
    return response


def _change_head(response: external_auth_pb2.OkHttpResponse, head: Head) -> None:
    if head.target is not None:
        response.headers.append(_header(":path", head.target))
    response.headers.extend(_header(*pair) for pair in head.headers)
    response.headers_to_remove.extend(head.removed)


def refuse(decision: Decision, denial: Denial) -> Refusal:
    """The refusal as the caller's SDK reads it."""
    context = decision.context
    verified = {} if context.caller is None else context.caller.parameters
    addressee = Addressee(
        protocol=protocol_of(context.route, context.request.path),
        request_id=context.request.request_id,
        signers=context.policy.signers,
        alipay_method=known_method(context.route, context.request, verified),
        alipay_certificates="app_cert_sn" in verified or "app_cert_sn=" in context.request.query,
    )
    return write_refusal(denial, addressee)


def upstream_headers(decision: Decision) -> list[tuple[str, str]]:
    """The `x-pay-*` headers of an allowed request, which pick channel and version and tell the service who pays."""
    context = decision.context
    route = context.route
    assert route is not None
    service = _service(decision, route)
    merchant = None if context.caller is None else context.caller.merchant.id
    salt = context.request.extensions.get(names.SALT_EXTENSION + service.name, service.split_salt)
    headers = [
        (names.OPERATION_HEADER, str(route.operation)),
        (names.SPLIT_HEADER, split_value(salt, _whose(context, merchant), context.request.request_id)),
    ]
    if merchant is not None:
        headers.append((names.MERCHANT_HEADER, merchant))
    if route.signed_parameters:
        headers.append((names.ROUTE_HEADER, route.name))
    if context.user is not None:
        headers.append((names.USER_HEADER, context.user.header_value))
    if context.order_matched:
        headers.append((names.ORDER_HEADER, "matched"))
    if context.channel is not None:
        headers.append((names.CHANNEL_HEADER, context.channel.name))
    if context.replayed:
        headers.append((names.REPLAY_HEADER, "true"))
    stays = context.order_version
    # The order step may have found another channel since, and so another service, whose versions are its own.
    if stays is not None and stays.service == service.name:
        headers.append((names.VERSION_HEADER, stays.version))
    elif merchant is not None and (pinned := context.request.extensions.get(names.PINNED_EXTENSION + service.name)):
        version = decode_pinned(pinned).get(merchant)
        if version is not None:
            headers.append((names.VERSION_HEADER, version))
    return headers


def _whose(context: CheckContext, merchant: str | None) -> str | None:
    """Who stays on one version: the merchant, or else the person."""
    if merchant is not None:
        return merchant
    return None if context.user is None else context.user.header_value


def _service(decision: Decision, route: Route) -> Service:
    channel = decision.context.channel
    name = route.service if channel is None else channel.service
    assert name is not None
    return decision.context.policy.services[name]


def _metadata(decision: Decision, trace_parent: str | None) -> dict[str, str]:
    context = decision.context
    found: dict[str, str | None] = {
        names.META_DECISION: names.DECISION_ALLOW if decision.denial is None else names.DECISION_DENY,
        names.META_REQUEST_ID: context.request.request_id,
        names.META_ROUTE: None if context.route is None else context.route.name,
        names.META_OPERATION: None if context.route is None else str(context.route.operation),
        names.META_MONEY: None if context.facts.money is None else money_text(context.facts.money),
        names.META_MERCHANT: None if context.caller is None else context.caller.merchant.id,
        names.META_SCHEME: None if context.caller is None else str(context.caller.scheme),
        names.META_CHANNEL: None if context.channel is None else context.channel.name,
        names.META_MOVABLE: _movable(decision),
        names.META_CHANNEL_WHY: None if context.selection is None else context.selection.why,
        **(_for_adapter(context) if decision.denial is None else {}),
        names.META_REASON: None if decision.denial is None else str(decision.denial.reason),
        names.META_ORDER_KEYS: "\n".join(context.order_keys) or None,
        names.META_REPLAYED: "true" if context.replayed and decision.denial is None else None,
        names.META_RECORDED: "true" if context.recorded and decision.denial is None else None,
        names.META_HELD: "\n".join(context.held) or None if decision.denial is None else None,
        names.META_TIMED: "\n".join(context.timed) or None if decision.denial is None else None,
        names.META_SETTLES_ORDER: _settles_order(context) if decision.denial is None else None,
        names.META_TRACE_PARENT: trace_parent,
        names.META_CONTENT_TYPE: _content_type(context) if decision.denial is None else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _movable(decision: Decision) -> str | None:
    """The service, if it has versions that a release could move between."""
    if decision.denial is not None or decision.context.route is None:
        return None
    service = _service(decision, decision.context.route)
    return service.name if len(service.versions) > 1 else None


def _for_adapter(context: CheckContext) -> dict[str, str | None]:
    """What ext_proc has to know, beside the request, to write it as the channel's own."""
    if context.channel is None or not context.channel.adapted:
        return {}
    terms = context.ordered
    known = terms is not None and terms.amount is not None and terms.currency is not None
    return {
        names.META_BEGUN_AT: str(context.now_s if context.begun_at_s is None else context.begun_at_s),
        names.META_ORDERED: f"{terms.amount} {terms.currency}" if terms is not None and known else None,
    }


def _settles_order(context: CheckContext) -> str | None:
    route, order_no = context.route, context.facts.order_no
    if order_no is None or route is None or not context.policy.settles_orders:
        return None
    return order_key(Operation.PAY, order_no) if route.operation in SETTLING else None


def _content_type(context: CheckContext) -> str | None:
    """For ext_proc, which sees the body without its head. Only where it has something to do there."""
    route, caller = context.route, context.caller
    if route is None or not route.sanitize_request:
        return None
    content_type = next(iter(context.request.headers.get("content-type", ())), "")
    parameter = route.request_reading.charset_parameter
    if parameter is None or caller is None or "charset" in content_type.lower():
        return content_type
    # The form's charset may stand in the query alone (Alipay v2).
    named = caller.parameters.get(parameter)
    return content_type if named is None else f"{content_type}; charset={named}"


def _header(name: str, value: str) -> base_pb2.HeaderValueOption:
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
