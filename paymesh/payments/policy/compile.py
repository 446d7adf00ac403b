"""Owns turning documents into the compiled policy: names resolved, keys parsed, and whatever would be unsafe refused.

Refuses nothing silently: every problem of every document is collected before the whole policy is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol as TypingProtocol
from typing import TypeVar

from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy.problems import DocumentPath, PolicyProblem
from paymesh.payments.policy.references import References, UnusableReference
from paymesh.payments.policy.route_checks import PROTOCOLS, TEMPLATE_SEGMENT, route_problems
from paymesh.payments.policy.yaml_source import SourceTree
from paymesh.payments.secrets import Secret

MIN_HMAC_BYTES = 16
APIV3_KEY_BYTES = 32
"""protocols.md section 1: the APIv3 key is the AES-256 key itself."""

OBSERVED = frozenset({c.Operation.PAY, c.Operation.QUERY, c.Operation.REFUND, c.Operation.CLOSE})


class Named(TypingProtocol):
    @property
    def name(self) -> str: ...


NamedT = TypeVar("NamedT", bound=Named)
T = TypeVar("T")


def normalize_serial(serial: str) -> str:
    """Certificate serials are hex in either case and may have leading zeros; PUB_KEY_ID_... stays as it is."""
    if serial.startswith("PUB_KEY_ID_"):
        return serial
    return serial.upper().lstrip("0") or "0"


class Compiler:
    """Compiles one set of documents. After `compile()` the policy is valid only if `problems` is empty."""

    def __init__(self, document: d.PolicyDocument, tree: SourceTree, references: References) -> None:
        self._document = document
        self._tree = tree
        self._references = references
        self.problems: list[PolicyProblem] = []

    def compile(self, version: str) -> c.Policy:
        services = self._by_name("services", self._document.services, self._service)
        limits = self._by_name("rate_limits", self._document.rate_limits, self._rate_limit)
        channels = self._by_name("channels", self._document.channels, self._channel)
        for index, document in enumerate(self._document.channels):
            if document.service not in services:
                self._problem(("channels", index, "service"), self._unknown("service", document.service, services))
        notification_keys = self._notification_keys()
        merchants, hmac_keys, wechat_keys, wechat_merchants = self._merchants(limits)
        routes = self._by_name(
            "routes",
            self._document.routes,
            lambda document, path: self._route(document, path, channels, services, limits, notification_keys),
        )
        ordered = sorted(routes.values(), key=_specificity)
        return c.Policy(
            version=version,
            routes=tuple(ordered),
            services=services,
            channels=channels,
            merchants=merchants,
            hmac_keys=hmac_keys,
            wechat_keys=wechat_keys,
            wechat_merchants=wechat_merchants,
            notification_keys=notification_keys,
            routes_by_name=routes,
        )

    # -- services, channels, limits ------------------------------------------------------------------------------

    def _service(self, document: d.ServiceDocument, path: DocumentPath) -> c.Service:
        versions = self._unique(document.versions, (*path, "versions"))
        total = sum(version.weight for version in document.versions)
        if len(document.versions) > 1 and total != c.TOTAL_WEIGHT:
            self._problem((*path, "versions"), f"the weights add up to {total / 100:g} percent, not to 100")
        if len(document.versions) == 1 and total != c.TOTAL_WEIGHT:
            self._problem((*path, "versions", 0, "weight"), "the only version has all the traffic: weight 100")
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
            self._problem((*path, "address"), "an endpoint's address is an IP address")
        return c.Endpoint(document.address, document.port)

    def _rate_limit(self, document: d.RateLimitDocument, _: DocumentPath) -> c.RateLimit:
        return c.RateLimit(document.name, _bucket(document))

    def _channel(self, document: d.ChannelDocument, path: DocumentPath) -> c.Channel:
        if document.amount.max is not None and document.amount.max < document.amount.min:
            self._problem((*path, "amount"), "max is smaller than min: no payment would fit")
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

    def _notification_keys(self) -> dict[str, c.NotificationKeys]:
        found: dict[str, c.NotificationKeys] = {}
        for index, document in enumerate(self._document.channels):
            notifications = document.notifications
            if notifications is None:
                continue
            path: DocumentPath = ("channels", index, "notifications")
            keys = {}
            for number, platform in enumerate(notifications.platform_keys):
                key, _ = self._resolve(
                    (*path, "platform_keys", number, "public_key"), self._references.public_key, platform.public_key
                ) or (None, None)
                if key is not None:
                    keys[normalize_serial(platform.serial_no)] = key
            secret = self._secret((*path, "apiv3_key"), notifications.apiv3_key, exactly=APIV3_KEY_BYTES)
            if secret is not None:
                found[document.name] = c.NotificationKeys(document.name, keys, secret)
        return found

    # -- merchants -----------------------------------------------------------------------------------------------

    def _merchants(
        self, limits: Mapping[str, c.RateLimit]
    ) -> tuple[
        dict[str, c.Merchant],
        dict[str, tuple[c.Merchant, c.HmacCredential]],
        dict[tuple[str, str], tuple[c.Merchant, c.WechatCredential]],
        dict[str, c.Merchant],
    ]:
        merchants: dict[str, c.Merchant] = {}
        hmac_keys: dict[str, tuple[c.Merchant, c.HmacCredential]] = {}
        wechat_keys: dict[tuple[str, str], tuple[c.Merchant, c.WechatCredential]] = {}
        wechat_merchants: dict[str, c.Merchant] = {}
        for index, document in enumerate(self._document.merchants):
            path: DocumentPath = ("merchants", index)
            merchant = self._merchant(document, path, limits)
            if merchant.id in merchants:
                self._problem((*path, "id"), f"merchant {merchant.id} is defined twice")
            merchants[merchant.id] = merchant
            for number, credential in enumerate(document.credentials):
                place = (*path, "credentials", number)
                if isinstance(credential, d.HmacCredentialDocument):
                    self._add_hmac(credential, place, merchant, hmac_keys)
                else:
                    self._add_wechat(credential, place, merchant, wechat_keys, wechat_merchants)
        return merchants, hmac_keys, wechat_keys, wechat_merchants

    def _merchant(
        self, document: d.MerchantDocument, path: DocumentPath, limits: Mapping[str, c.RateLimit]
    ) -> c.Merchant:
        for name in document.rate_limits:
            if name not in limits:
                self._problem((*path, "rate_limits", name), self._unknown("rate limit", name, limits))
        return c.Merchant(document.id, {name: _bucket(size) for name, size in document.rate_limits.items()})

    def _add_hmac(
        self,
        document: d.HmacCredentialDocument,
        path: DocumentPath,
        merchant: c.Merchant,
        keys: dict[str, tuple[c.Merchant, c.HmacCredential]],
    ) -> None:
        secret = self._secret((*path, "secret"), document.secret, at_least=MIN_HMAC_BYTES)
        if document.key_id in keys:
            self._problem((*path, "key_id"), f"key id {document.key_id} is used twice")
        elif secret is not None:
            keys[document.key_id] = (merchant, c.HmacCredential(document.key_id, secret))

    def _add_wechat(
        self,
        document: d.WechatCredentialDocument,
        path: DocumentPath,
        merchant: c.Merchant,
        keys: dict[tuple[str, str], tuple[c.Merchant, c.WechatCredential]],
        merchants: dict[str, c.Merchant],
    ) -> None:
        resolved = self._resolve((*path, "public_key"), self._references.public_key, document.public_key)
        owner = merchants.setdefault(document.mchid, merchant)
        if owner.id != merchant.id:
            self._problem((*path, "mchid"), f"mchid {document.mchid} belongs to merchant {owner.id} already")
        if resolved is None:
            return
        serial = document.serial_no or resolved[1]
        if serial is None:
            self._problem((*path, "serial_no"), "is required where the key is not a certificate")
            return
        identity = (document.mchid, normalize_serial(serial))
        if identity in keys:
            self._problem((*path, "serial_no"), f"serial {serial} is used twice for mchid {document.mchid}")
        keys[identity] = (merchant, c.WechatCredential(*identity, public_key=resolved[0]))

    # -- routes --------------------------------------------------------------------------------------------------

    def _route(
        self,
        document: d.RouteDocument,
        path: DocumentPath,
        channels: Mapping[str, c.Channel],
        services: Mapping[str, c.Service],
        limits: Mapping[str, c.RateLimit],
        notification_keys: Mapping[str, c.NotificationKeys],
    ) -> c.Route:
        for place, message in route_problems(document, notification_keys):
            self._problem((*path, *place), message)
        chosen = self._lookup(document.channels, channels, "channel", (*path, "channels"))
        if document.service is not None and document.service not in services:
            self._problem((*path, "service"), self._unknown("service", document.service, services))
        rules = tuple(
            self._rule(rule, (*path, "sanitize", "request", number))
            for number, rule in enumerate(document.sanitize.request)
        )
        observed = document.operation in OBSERVED if document.observe_response is None else document.observe_response
        return c.Route(
            name=document.name,
            match=self._match(document.match),
            operation=document.operation,
            schemes=document.schemes,
            protocol=PROTOCOLS[document.schemes[0]] if document.schemes else c.Protocol.PAYMESH,
            fields=c.Fields(**{name: getattr(document.fields, name) for name in d.FieldsDocument.model_fields}),
            rate_limits=tuple(self._lookup(document.rate_limits, limits, "rate limit", (*path, "rate_limits"))),
            channels=tuple(sorted(chosen, key=lambda channel: channel.priority)),
            service=document.service,
            sanitize_request=rules,
            observe_response=observed,
            timeout_ms=document.timeout,
            max_body_bytes=document.max_body_bytes,
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
            self._problem((*path, "hash_key"), "hash needs a hash_key, and nothing else takes one")
        elif document.hash_key is not None:
            secret = self._secret((*path, "hash_key", "secret"), document.hash_key.secret, at_least=MIN_HMAC_BYTES)
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
                self._problem((*path, index, "name"), f"{document.name} is defined twice")
            seen.add(document.name)
        return list(enumerate(documents))

    def _lookup(self, names: Sequence[str], known: Mapping[str, T], what: str, path: DocumentPath) -> list[T]:
        for number, name in enumerate(names):
            if name not in known:
                self._problem((*path, number), self._unknown(what, name, known))
            elif name in names[:number]:
                self._problem((*path, number), f"{name} is named twice")
        return [known[name] for name in names if name in known]

    def _secret(
        self, path: DocumentPath, reference: d.SecretReference, at_least: int = 1, exactly: int | None = None
    ) -> Secret | None:
        secret = self._resolve(path, self._references.secret, reference)
        if secret is None:
            return None
        length = len(secret.reveal())
        if exactly is not None and length != exactly:
            self._problem(path, f"the secret has {length} bytes, not {exactly}")
            return None
        if length < at_least:
            self._problem(path, f"the secret has {length} bytes; at least {at_least} are required")
            return None
        return secret

    def _resolve(self, path: DocumentPath, read: Callable[..., T], source: object) -> T | None:
        try:
            return read(source, self._tree.locate(path).file)
        except UnusableReference as error:
            self._problem(path, str(error))
            return None

    def _unknown(self, what: str, name: str, known: Mapping[str, object]) -> str:
        choices = ", ".join(sorted(known)[:10]) or "none is defined"
        return f"unknown {what} {name} (known: {choices})"

    def _problem(self, path: DocumentPath, message: str) -> None:
        self.problems.append(self._tree.problem(path, message))


def _bucket(document: d.BucketDocument) -> c.BucketSize:
    return c.BucketSize(document.requests_per_second, document.burst)


def _template_regex(template: str) -> str:
    """A pattern for the whole path that means the same to RE2 (Envoy's safe_regex) and to `re.fullmatch`."""
    return "/".join("[^/]+" if TEMPLATE_SEGMENT.fullmatch(part) else re.escape(part) for part in template.split("/"))


def _specificity(route: c.Route) -> tuple[int, int, int]:
    """Sort key, most specific first; the sort is stable, so equal routes keep the order of the documents."""
    match = route.match
    conditions = len(match.headers) + len(match.query_parameters) + bool(match.methods)
    return (match.path_kind, -len(match.path), -conditions)
