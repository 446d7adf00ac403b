"""Owns turning documents into the compiled policy: names resolved, keys parsed, and whatever would be unsafe refused.

Refuses nothing silently: every problem of every document is collected before the whole policy is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from paymesh.payments.merchant_table.settings import MerchantTable
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy.callers import AmountRange, LimitSize, Merchant, Scheme
from paymesh.payments.policy.compile_adapters import check_adapted_routes, check_order_numbers, compile_adapters
from paymesh.payments.policy.compile_channels import (
    check_schedule_ids,
    compile_channel,
    compile_fees,
    watches_of,
)
from paymesh.payments.policy.compile_credentials import CredentialCompiler
from paymesh.payments.policy.compile_fields import check_ring_uses, compile_key_rings
from paymesh.payments.policy.compile_forwarding import check_forwarding
from paymesh.payments.policy.compile_limits import check_override, compile_limit, compile_size
from paymesh.payments.policy.compile_routes import Named, check_order, compile_route
from paymesh.payments.policy.compile_services import compile_service
from paymesh.payments.policy.compile_users import check_route_users, compile_user_providers
from paymesh.payments.policy.credential_documents import AlipayCredentialDocument
from paymesh.payments.policy.field_checks import SIGNED_AGAIN
from paymesh.payments.policy.findings import Findings, NamedT
from paymesh.payments.policy.gateway_document import compile_gateway
from paymesh.payments.policy.merchant_table_document import compile_merchant_table
from paymesh.payments.policy.observability_document import compile_tracing
from paymesh.payments.policy.problems import DocumentPath, PolicyProblem
from paymesh.payments.policy.rate_limits import RateLimit
from paymesh.payments.policy.references import References
from paymesh.payments.policy.route_order import specificity
from paymesh.payments.policy.variants import with_entries
from paymesh.payments.policy.yaml_source import SourceTree
from paymesh.payments.signers import Signer
from paymesh.payments.users.providers import UserProvider

T = TypeVar("T")


class Compiler:
    """Compiles one set of documents. After `compile()` the policy is valid only if `problems` is empty."""

    def __init__(self, document: d.PolicyDocument, tree: SourceTree, references: References) -> None:
        self._document = document
        self._findings = Findings(tree, references)
        self._credentials = CredentialCompiler(self._findings, {one.name: one for one in document.jwt_issuers})

    @property
    def problems(self) -> list[PolicyProblem]:
        return self._findings.problems

    def compile(self, version: str) -> c.Policy:
        services = self._by_name(
            "services",
            self._document.services,
            lambda document, path: compile_service(document, path, self._findings),
        )
        limits = self._by_name(
            "rate_limits",
            self._document.rate_limits,
            lambda document, path: compile_limit(document, path, self._findings),
        )
        channels = self._by_name(
            "channels",
            self._document.channels,
            lambda document, path: compile_channel(document, path, self._findings),
        )
        check_schedule_ids(self._document.channels, self._findings)
        for index, document in enumerate(self._document.channels):
            if document.service not in services:
                self._findings.unknown(("channels", index, "service"), "service", document.service, services)
        adapted = compile_adapters(self._document.channels, channels, self._findings)
        notifications = self._notifications()
        providers = compile_user_providers(self._document.user_providers, self._findings)
        rings = compile_key_rings(self._document.field_keys, self._findings)
        check_ring_uses(self._document.routes, self._findings)
        named = Named(channels, services, limits, notifications, rings)
        routes = self._by_name(
            "routes",
            self._document.routes,
            lambda document, path: compile_route(document, path, named, self._findings),
        )
        issuers = self._issuers()
        self._check_users(providers)
        merchants = self._merchants(limits, routes, channels)
        check_adapted_routes(self._document.routes, routes, self._findings)
        check_order_numbers(self._document, merchants, self._findings)
        self._require_sellers(notifications)
        signers = self._signers()
        self._require_signers(routes, signers)
        ordered = sorted(with_entries(self._document.routes, routes, self._findings), key=specificity)
        check_forwarding(self._document, self._findings)
        check_order(self._document.routes, ordered, self._findings)
        return c.Policy(
            version=version,
            routes=tuple(ordered),
            services=services,
            channels=channels,
            merchants=merchants,
            keys=self._credentials.keys,
            identities=self._credentials.identities,
            certificates=self._credentials.certificates,
            jwt_issuers=issuers,
            user_providers=providers,
            signers=signers,
            field_keys=rings,
            rate_limits=limits,
            settles_orders=any(route.open_order for route in routes.values()),
            holds_slots=any(not limit.kind.has_rate for route in routes.values() for limit in route.rate_limits),
            moves_money=any(route.operation in c.MOVING_MONEY for route in routes.values()),
            merchant_table=self._merchant_table(limits, routes, notifications),
            gateway=compile_gateway(self._document.gateway),
            tracing=compile_tracing(self._document.observability, routes.values(), self._findings),
            adapted=adapted,
            channel_watches=watches_of(routes.values()),
            routes_by_name={**routes, **{route.name: route for route in ordered}},
        )

    # -- services, channels, limits ------------------------------------------------------------------------------

    def _notifications(self) -> dict[str, c.Notifications]:
        found: dict[str, c.Notifications] = {}
        for index, document in enumerate(self._document.channels):
            if document.notifications is not None:
                path: DocumentPath = ("channels", index, "notifications")
                read = self._credentials.notifications(document.notifications, path, document.name)
                if read is not None:
                    found[document.name] = read
        return found

    def _issuers(self) -> dict[str, c.JwtIssuer]:
        issuers: dict[str, c.JwtIssuer] = {}
        named = self._findings.unique(self._document.jwt_issuers, ("jwt_issuers",))
        for index, document in named:
            path: DocumentPath = ("jwt_issuers", index)
            if any(known.issuer == document.issuer for known in issuers.values()):
                self._findings.problem((*path, "issuer"), "has another entry already: its keys could not be told apart")
            issuer = self._credentials.issuer(document, path)
            if issuer is not None:
                issuers[issuer.issuer] = issuer
        return issuers

    def _check_users(self, providers: Mapping[str, UserProvider]) -> None:
        for index, route in enumerate(self._document.routes):
            path: DocumentPath = ("routes", index, "users")
            check_route_users(route.users, self._document.user_providers, providers, path, self._findings)

    def _merchant_table(
        self,
        limits: Mapping[str, RateLimit],
        routes: Mapping[str, c.Route],
        notifications: Mapping[str, c.Notifications],
    ) -> MerchantTable | None:
        if self._document.merchant_table is None:
            return None
        issuers = [issuer.name for issuer in self._document.jwt_issuers]
        return compile_merchant_table(
            self._document.merchant_table, ("merchant_table",), limits, routes, issuers, notifications, self._findings
        )

    def _signers(self) -> dict[c.Protocol, Signer]:
        signers: dict[c.Protocol, Signer] = {}
        for index, document in enumerate(self._document.response_signers):
            path: DocumentPath = ("response_signers", index)
            if document.protocol in signers:
                self._findings.problem((*path, "protocol"), f"{document.protocol} has a signer already")
            signer = self._credentials.signer(document, path)
            if signer is not None:
                signers[document.protocol] = signer
        return signers

    def _require_signers(self, routes: Mapping[str, c.Route], signers: Mapping[c.Protocol, Signer]) -> None:
        for index, document in enumerate(self._document.routes):
            route = routes[document.name]
            if route.sign_again and route.protocol in SIGNED_AGAIN and route.protocol not in signers:
                path: DocumentPath = ("routes", index, "sanitize", "sign_again")
                self._findings.problem(path, f"no response_signers entry has a key for {route.protocol}")

    # -- merchants -----------------------------------------------------------------------------------------------

    def _merchants(
        self, limits: Mapping[str, RateLimit], routes: Mapping[str, c.Route], channels: Mapping[str, c.Channel]
    ) -> dict[str, Merchant]:
        merchants: dict[str, Merchant] = {}
        for index, document in enumerate(self._document.merchants):
            path: DocumentPath = ("merchants", index)
            merchant = compile_merchant(document, path, limits, routes, self._findings, channels)
            if merchant.id in merchants:
                self._findings.problem((*path, "id"), f"merchant {merchant.id} is defined twice")
            merchants[merchant.id] = merchant
            for number, credential in enumerate(document.credentials):
                self._credentials.add(credential, (*path, "credentials", number), merchant)
        return merchants

    def _require_sellers(self, notifications: Mapping[str, c.Notifications]) -> None:
        """A notified seller must be the order's, so it has to be known before the first notification comes."""
        if not any(read.scheme is Scheme.ALIPAY_NOTIFICATION for read in notifications.values()):
            return
        for index, merchant in enumerate(self._document.merchants):
            for number, credential in enumerate(merchant.credentials):
                if isinstance(credential, AlipayCredentialDocument) and credential.seller_id is None:
                    path: DocumentPath = ("merchants", index, "credentials", number, "seller_id")
                    self._findings.problem(path, "is required where a channel has Alipay notifications")

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    def _by_name(
        self,
        section: str,
        documents: Sequence[NamedT],
        build: Callable[[NamedT, DocumentPath], T],
    ) -> dict[str, T]:
        return {
            document.name: build(document, (section, index))
            for index, document in self._findings.unique(documents, (section,))
        }


def compile_merchant(
    document: d.MerchantDocument,
    path: DocumentPath,
    limits: Mapping[str, RateLimit],
    routes: Mapping[str, object],
    findings: Findings,
    channels: Mapping[str, object] | None = None,
) -> Merchant:
    """A merchant without its credentials: from the documents, or from a row of the merchants' table, where `channels`
    are not known: one that does not exist takes nothing."""
    sizes: dict[str, LimitSize] = {}
    for name, size in document.rate_limits.items():
        there: DocumentPath = (*path, "rate_limits", name)
        if name in limits:
            check_override(limits[name], there, findings)
            sizes[name] = compile_size(limits[name].kind, size, there, findings)
        else:
            findings.unknown(there, "rate limit", name, limits)
    tiers = {tier: limit for limit in limits.values() for tier in limit.tiers}
    if document.tier is not None and document.tier not in tiers:
        findings.unknown((*path, "tier"), "tier", document.tier, tiers)
    findings.lookup(document.routes or (), routes, "route", (*path, "routes"))
    if channels is not None:
        findings.lookup(document.channels or (), channels, "channel", (*path, "channels"))
        for name in document.fees.keys() - channels.keys():
            findings.unknown((*path, "fees", name), "channel", name, channels)
    return Merchant(
        id=document.id,
        rate_limits=sizes,
        tier=document.tier,
        routes=None if document.routes is None else frozenset(document.routes),
        operations=None if document.operations is None else frozenset(document.operations),
        app_ids=None if document.app_ids is None else frozenset(document.app_ids),
        amounts=_amounts(document, path, findings),
        products=None if document.products is None else frozenset(document.products),
        channels=None if document.channels is None else frozenset(document.channels),
        fees={name: compile_fees(own, (*path, "fees", name), findings) for name, own in document.fees.items()},
        order_no_prefix=document.order_no_prefix or "",
        in_table=channels is None,
        sandbox=document.sandbox,
    )


def _amounts(document: d.MerchantDocument, path: DocumentPath, findings: Findings) -> dict[str, AmountRange] | None:
    if document.amounts is None:
        return None
    found: dict[str, AmountRange] = {}
    for number, item in enumerate(document.amounts):
        if item.currency in found:
            findings.problem((*path, "amounts", number, "currency"), f"{item.currency} has bounds already")
        if item.max < item.min:
            findings.problem((*path, "amounts", number), "max is smaller than min: no payment would fit")
        found[item.currency] = AmountRange(item.min, item.max)
    return found
