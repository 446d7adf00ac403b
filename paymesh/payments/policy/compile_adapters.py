"""Owns turning a channel's written adapter into one that can be called, its keys parsed. Refuses an adapter that is
none, an identity that its provider would not know, and merchants whose order numbers would meet at the provider."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from paymesh.payments.adapters.adapted import AdaptedChannel
from paymesh.payments.adapters.contract import Adapter, ChannelIdentity
from paymesh.payments.adapters.registry import AdapterUnknown, find_adapter
from paymesh.payments.credentials import verifiers as v
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy.adapter_documents import AdapterDocument, ProviderKeyDocument
from paymesh.payments.policy.callers import CredentialKey, Merchant
from paymesh.payments.policy.certificates import CertificateTrust
from paymesh.payments.policy.compile_credentials import dated_key, normalize_serial, serial_for
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.signers import Signer

_SERIALS: Mapping[str, c.Protocol] = {
    "alipay_v2": c.Protocol.ALIPAY_V2,
    "wechat_v3": c.Protocol.WECHAT_V3,
    "unionpay": c.Protocol.UNIONPAY,
}
_MEMBERS: Mapping[str, str] = {"signer": "private_key", "trust": "provider_certificates"}
"""Members of an identity that a policy names otherwise."""


def compile_adapters(
    documents: Sequence[d.ChannelDocument], channels: dict[str, c.Channel], findings: Findings
) -> dict[str, AdaptedChannel]:
    """By channel; a channel that does not say which products it takes takes its adapter's."""
    found: dict[str, AdaptedChannel] = {}
    for index, document in enumerate(documents):
        if document.adapter is None:
            continue
        path: DocumentPath = ("channels", index, "adapter")
        try:
            adapter = find_adapter(document.adapter.name)
        except AdapterUnknown as error:
            findings.problem((*path, "name"), str(error))
            continue
        channel = channels[document.name]
        for place, message in _misfits(channel, adapter):
            findings.problem(("channels", index, place), message)
        if channel.products is None:
            channels[document.name] = replace(channel, products=frozenset(adapter.capabilities.products))
        identity = _identity(document.adapter, path, findings)
        if identity is None:
            continue
        for problem in adapter.identity_problems(identity):
            member, _, wrong = problem.partition(": ")
            findings.problem((*path, _MEMBERS.get(member, member)), wrong)
        found[document.name] = AdaptedChannel(adapter, identity, document.adapter.host or "")
    return found


def check_adapted_routes(
    documents: Sequence[d.RouteDocument], routes: Mapping[str, c.Route], findings: Findings
) -> None:
    """What a route through adapted channels lacks."""
    for index, document in enumerate(documents):
        route = routes.get(document.name)
        if route is None or not any(channel.adapted for channel in route.channels):
            continue
        for place, message in _route_problems(route):
            findings.problem(("routes", index, *place), message)


def check_order_numbers(document: d.PolicyDocument, merchants: Mapping[str, Merchant], findings: Findings) -> None:
    """Merchants that share an account at a provider must not share order numbers there: one's order would be taken for
    a repeat of another's. Those of a merchants' table take part in none (`Merchant.in_table`)."""
    for channel in (one.name for one in document.channels if one.adapter is not None):
        routes = [one for one in document.routes if one.operation is c.Operation.PAY and channel in one.channels]
        using = [
            (i, one) for i, one in enumerate(document.merchants) if _may_use(one, merchants[one.id], channel, routes)
        ]
        if len(using) < 2:
            continue
        for index, one in using:
            path: DocumentPath = ("merchants", index, "order_no_prefix")
            prefix = one.order_no_prefix
            if prefix is None:
                findings.problem(path, f"is required: channel {channel} has orders of several merchants in one account")
                continue
            for _, other in using:
                if other is not one and (other.order_no_prefix or "").startswith(prefix):
                    findings.problem(path, f"is how the order numbers of {other.id} begin too, in channel {channel}")


def _may_use(document: d.MerchantDocument, merchant: Merchant, channel: str, routes: Sequence[d.RouteDocument]) -> bool:
    if merchant.channels is not None and channel not in merchant.channels:
        return False
    schemes = {str(one.scheme) for one in document.credentials}
    allowed = (one for one in routes if merchant.routes is None or one.name in merchant.routes)
    return any(schemes & set(map(str, one.schemes)) for one in allowed)


def _identity(document: AdapterDocument, path: DocumentPath, findings: Findings) -> ChannelIdentity | None:
    before = len(findings.problems)
    signer = _signer(document, path, findings)
    secret = None
    if document.secret is not None:
        secret = findings.secret((*path, "secret"), document.secret, at_least=16)
    keys: dict[str, tuple[CredentialKey, ...]] = {}
    for number, one in enumerate(document.provider_keys):
        serial, key = _provider_key(document.name, one, (*path, "provider_keys", number), findings)
        if key is not None:
            keys[serial] = (*keys.get(serial, ()), key)
    trust = None
    if document.provider_certificates is not None:
        given = document.provider_certificates
        there: DocumentPath = (*path, "provider_certificates", "authorities")
        authorities = findings.resolve(there, findings.references.certificates, given.authorities)
        trust = None if authorities is None else CertificateTrust(authorities, re.compile(given.common_name))
    if len(findings.problems) > before:
        return None
    return ChannelIdentity(
        account=document.account,
        signer=signer,
        secret=secret,
        provider_keys=keys,
        trust=trust,
        app_id=document.app_id or "",
        root_serial=document.root_serial or "",
        notify_url=document.notify_url or "",
    )


def _signer(document: AdapterDocument, path: DocumentPath, findings: Findings) -> Signer | None:
    if document.private_key is None:
        return None
    key = findings.resolve((*path, "private_key"), findings.references.rsa_private_key, document.private_key)
    found = None
    if document.certificate is not None:
        found = findings.resolve((*path, "certificate"), findings.references.rsa_key, document.certificate)
    if key is None or (document.certificate is not None and found is None):
        return None
    if found is not None and found.rsa != key.public_key():
        findings.problem((*path, "certificate"), "is not the private key's")
    serial = document.serial or ""
    if found is not None and not serial:
        serial = serial_for(_SERIALS.get(document.name, c.Protocol.WECHAT_V3), found.certificate)
    return Signer(key, serial)


def _provider_key(
    adapter: str, document: ProviderKeyDocument, path: DocumentPath, findings: Findings
) -> tuple[str, CredentialKey | None]:
    found = findings.resolve((*path, "public_key"), findings.references.rsa_key, document.public_key)
    if found is None:
        return "", None
    serial = document.serial or ""
    if not serial and found.certificate is not None and adapter in _SERIALS:
        serial = serial_for(_SERIALS[adapter], found.certificate)
    if adapter == "wechat_v3" and serial:
        serial = normalize_serial(serial)
    return serial, dated_key(serial or "unnamed", v.RsaSha256(found.rsa), None, {}, document, found.certificate)


def _misfits(channel: c.Channel, adapter: Adapter) -> Iterator[tuple[str, str]]:
    """What the channel is said to take and its adapter cannot ask for."""
    able = adapter.capabilities
    if unable := sorted(channel.operations - able.operations):
        yield "operations", f"{adapter.name} does no {', '.join(unable)}"
    if channel.products is not None and (unknown := sorted(channel.products - able.products.keys())):
        yield "products", f"{adapter.name} knows no {', '.join(unknown)} (it has: {', '.join(able.products)})"
    if unknown := sorted(channel.currencies - able.currencies):
        yield "currencies", f"{adapter.name} takes no {', '.join(unknown)}"


def _route_problems(route: c.Route) -> Iterator[tuple[DocumentPath, str]]:
    fields = route.fields
    if route.operation is c.Operation.NOTIFY or route.protocol is not c.Protocol.PAYMESH:
        return  # a provider's own messages: such a channel is not eligible for them
    if route.selects_channel and fields.product is None and fields.fixed_product is None:
        yield ("fields", "product"), "is required: an adapter has to know what is to be paid how"
    if route.operation is c.Operation.REFUND and fields.original_order_no is None:
        yield ("fields", "original_order_no"), "is required: the channel refunds an order, under a number of its own"
    if route.operation is c.Operation.REFUND and fields.amount is None:
        yield ("fields", "amount"), "is required: the channel is told how much goes back"
    if route.sanitize_request or route.sanitize_head:
        yield ("sanitize", "request"), "an adapted channel gets no field of the request but those that it needs"
