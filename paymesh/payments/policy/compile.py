"""Owns turning documents into the compiled policy: names resolved, keys parsed, and whatever would be unsafe refused.

Refuses nothing silently: every problem of every document is collected before the whole policy is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol as TypingProtocol
from typing import TypeVar

from paymesh.payments.merchant_table.settings import MerchantTable
from paymesh.payments.outcome import READ
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy.callers import BucketSize, Merchant, Scheme
from paymesh.payments.policy.compile_credentials import CredentialCompiler
from paymesh.payments.policy.compile_users import check_route_users, compile_user_providers
from paymesh.payments.policy.credential_documents import AlipayCredentialDocument
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.merchant_table_document import compile_merchant_table
from paymesh.payments.policy.problems import DocumentPath, PolicyProblem
from paymesh.payments.policy.references import References
from paymesh.payments.policy.route_checks import PROTOCOLS, TEMPLATE_SEGMENT, route_problems
from paymesh.payments.policy.variants import with_entries
from paymesh.payments.policy.yaml_source import SourceTree
from paymesh.payments.signers import Signer
from paymesh.payments.users.providers import UserProvider

MIN_HASH_KEY_BYTES = 16

OBSERVED = frozenset({c.Operation.PAY, c.Operation.QUERY, c.Operation.REFUND, c.Operation.CLOSE})


_NOTATIONS: Mapping[c.Protocol, c.AmountNotation] = {
    c.Protocol.ALIPAY_V2: c.AmountNotation.DECIMAL_TEXT,
    c.Protocol.ALIPAY_V3: c.AmountNotation.DECIMAL_TEXT,
    c.Protocol.ALIPAY_NOTIFICATION: c.AmountNotation.DECIMAL_TEXT,
    c.Protocol.UNIONPAY: c.AmountNotation.MINOR_UNITS_TEXT,
    c.Protocol.UNIONPAY_NOTIFICATION: c.AmountNotation.MINOR_UNITS_TEXT,
}
"""protocols.md section 1; every other protocol has integers."""


_APP_IDS: Mapping[c.Protocol, tuple[c.JsonPointer, ...]] = {c.Protocol.WECHAT_V3: (("appid",), ("sp_appid",))}
"""Elsewhere the credential itself proves the app id."""


class Named(TypingProtocol):
    @property
    def name(self) -> str: ...


NamedT = TypeVar("NamedT", bound=Named)
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
        services = self._by_name("services", self._document.services, self._service)
        limits = self._by_name("rate_limits", self._document.rate_limits, self._rate_limit)
        channels = self._by_name("channels", self._document.channels, self._channel)
        for index, document in enumerate(self._document.channels):
            if document.service not in services:
                self._findings.unknown(("channels", index, "service"), "service", document.service, services)
        notifications = self._notifications()
        providers = compile_user_providers(self._document.user_providers, self._findings)
        routes = self._by_name(
            "routes",
            self._document.routes,
            lambda document, path: self._route(document, path, channels, services, limits, notifications),
        )
        issuers = self._issuers()
        self._check_users(providers)
        merchants = self._merchants(limits, routes)
        self._require_sellers(notifications)
        signers = self._signers()
        ordered = sorted(with_entries(self._document.routes, routes, self._findings), key=_specificity)
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
            merchant_table=self._merchant_table(limits, routes, notifications),
            routes_by_name={**routes, **{route.name: route for route in ordered}},
        )

    # -- services, channels, limits ------------------------------------------------------------------------------

    def _service(self, document: d.ServiceDocument, path: DocumentPath) -> c.Service:
        versions = self._unique(document.versions, (*path, "versions"))
        total = sum(version.weight for version in document.versions)
        if len(document.versions) > 1 and total != c.TOTAL_WEIGHT:
            self._findings.problem((*path, "versions"), f"the weights add up to {total / 100:g} percent, not to 100")
        if len(document.versions) == 1 and total != c.TOTAL_WEIGHT:
            self._findings.problem((*path, "versions", 0, "weight"), "the only version has all the traffic: weight 100")
        return c.Service(
            name=document.name,
            versions=tuple(
                c.ServiceVersion(
                    version.name,
                    tuple(
                        self._endpoint(endpoint, (*path, "versions", index, "endpoints", number))
                        for number, endpoint in enumerate(version.endpoints)
                    ),
                    version.weight,
                )
                for index, version in versions
            ),
            connect_timeout_ms=document.connect_timeout,
        )

    def _endpoint(self, document: d.EndpointDocument, path: DocumentPath) -> c.Endpoint:
        try:
            ipaddress.ip_address(document.address)
        except ValueError:
            self._findings.problem((*path, "address"), "an endpoint's address is an IP address")
        return c.Endpoint(document.address, document.port)

    def _rate_limit(self, document: d.RateLimitDocument, _: DocumentPath) -> c.RateLimit:
        return c.RateLimit(document.name, _bucket(document))

    def _channel(self, document: d.ChannelDocument, path: DocumentPath) -> c.Channel:
        if document.amount.max is not None and document.amount.max < document.amount.min:
            self._findings.problem((*path, "amount"), "max is smaller than min: no payment would fit")
        return c.Channel(
            name=document.name,
            service=document.service,
            operations=frozenset(document.operations),
            products=None if document.products is None else frozenset(document.products),
            currencies=frozenset(document.currencies),
            min_amount=document.amount.min,
            max_amount=document.amount.max,
            priority=document.priority,
        )

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
        named = self._unique(self._document.jwt_issuers, ("jwt_issuers",))
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
        limits: Mapping[str, c.RateLimit],
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

    # -- merchants -----------------------------------------------------------------------------------------------

    def _merchants(self, limits: Mapping[str, c.RateLimit], routes: Mapping[str, c.Route]) -> dict[str, Merchant]:
        merchants: dict[str, Merchant] = {}
        for index, document in enumerate(self._document.merchants):
            path: DocumentPath = ("merchants", index)
            merchant = compile_merchant(document, path, limits, routes, self._findings)
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

    # -- routes --------------------------------------------------------------------------------------------------

    def _route(
        self,
        document: d.RouteDocument,
        path: DocumentPath,
        channels: Mapping[str, c.Channel],
        services: Mapping[str, c.Service],
        limits: Mapping[str, c.RateLimit],
        notifications: Mapping[str, c.Notifications],
    ) -> c.Route:
        for place, message in route_problems(document, notifications):
            self._findings.problem((*path, *place), message)
        chosen = self._findings.lookup(document.channels, channels, "channel", (*path, "channels"))
        if document.service is not None and document.service not in services:
            self._findings.unknown((*path, "service"), "service", document.service, services)
        rules = tuple(
            self._rule(rule, (*path, "sanitize", "request", number))
            for number, rule in enumerate(document.sanitize.request)
        )
        applied = self._findings.lookup(document.rate_limits, limits, "rate limit", (*path, "rate_limits"))
        protocol = PROTOCOLS[document.schemes[0]] if document.schemes else c.Protocol.PAYMESH
        told = document.operation in OBSERVED and protocol in READ
        observed = told if document.observe_response is None else document.observe_response
        notifies = document.operation is c.Operation.NOTIFY and document.channels
        return c.Route(
            name=document.name,
            match=self._match(document.match),
            operation=document.operation,
            schemes=document.schemes,
            protocol=protocol,
            fields=_fields(document.fields, protocol),
            rate_limits=tuple(applied),
            channels=tuple(sorted(chosen, key=lambda channel: channel.priority)),
            notifications=notifications.get(document.channels[0]) if notifies else None,
            service=document.service,
            sanitize_request=rules,
            observe_response=observed,
            timeout_ms=document.timeout,
            max_body_bytes=document.max_body_bytes,
            scopes=frozenset(document.scopes),
            users=document.users,
            idempotency_key=document.idempotency_key,
            unknown_orders=document.unknown_orders,
            signed_parameters=tuple(sorted(document.match.signed_parameters.items())),
        )

    def _match(self, document: d.MatchDocument) -> c.RouteMatch:
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
        )

    def _rule(self, document: d.SanitizeRuleDocument, path: DocumentPath) -> c.SanitizeRule:
        key = None
        if (document.hash_key is not None) != (document.action is c.SanitizeAction.HASH):
            self._findings.problem((*path, "hash_key"), "hash needs a hash_key, and nothing else takes one")
        elif document.hash_key is not None:
            secret = self._findings.secret(
                (*path, "hash_key", "secret"), document.hash_key.secret, at_least=MIN_HASH_KEY_BYTES
            )
            key = None if secret is None else c.HashKey(document.hash_key.id, secret)
        return c.SanitizeRule(document.field, document.action, document.kind, key)

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    def _by_name(
        self,
        section: str,
        documents: Sequence[NamedT],
        build: Callable[[NamedT, DocumentPath], T],
    ) -> dict[str, T]:
        return {
            document.name: build(document, (section, index)) for index, document in self._unique(documents, (section,))
        }

    def _unique(self, documents: Sequence[NamedT], path: DocumentPath) -> list[tuple[int, NamedT]]:
        seen: set[str] = set()
        for index, document in enumerate(documents):
            if document.name in seen:
                self._findings.problem((*path, index, "name"), f"{document.name} is defined twice")
            seen.add(document.name)
        return list(enumerate(documents))


def compile_merchant(
    document: d.MerchantDocument,
    path: DocumentPath,
    limits: Mapping[str, c.RateLimit],
    routes: Mapping[str, object],
    findings: Findings,
) -> Merchant:
    """A merchant without its credentials: from the documents, or from a row of the merchants' table."""
    for name in document.rate_limits:
        if name not in limits:
            findings.unknown((*path, "rate_limits", name), "rate limit", name, limits)
    findings.lookup(document.routes or (), routes, "route", (*path, "routes"))
    return Merchant(
        id=document.id,
        rate_limits={name: _bucket(size) for name, size in document.rate_limits.items()},
        routes=None if document.routes is None else frozenset(document.routes),
        operations=None if document.operations is None else frozenset(document.operations),
        app_ids=None if document.app_ids is None else frozenset(document.app_ids),
        sandbox=document.sandbox,
    )


def _bucket(document: d.BucketDocument) -> BucketSize:
    return BucketSize(document.requests_per_second, document.burst)


def _fields(document: d.FieldsDocument, protocol: c.Protocol) -> c.Fields:
    given = {name: getattr(document, name) for name in d.FieldsDocument.model_fields}
    given["order_no"], *others = document.order_no or (None,)
    return c.Fields(
        **given,
        order_no_otherwise=tuple(others),
        app_id_if_there=_APP_IDS.get(protocol, ()),
        amount_notation=_NOTATIONS.get(protocol, c.AmountNotation.MINOR_UNITS),
    )


def _template_regex(template: str) -> str:
    """A pattern for the whole path that means the same to RE2 (Envoy's safe_regex) and to `re.fullmatch`."""
    return "/".join("[^/]+" if TEMPLATE_SEGMENT.fullmatch(part) else re.escape(part) for part in template.split("/"))


def _specificity(route: c.Route) -> tuple[int, int, int]:
    """Sort key, most specific first; the sort is stable, so equal routes keep the order of the documents."""
    match = route.match
    conditions = len(match.headers) + len(match.query_parameters) + bool(match.methods)
    return (match.path_kind, -len(match.path), -conditions)
