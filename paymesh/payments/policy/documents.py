"""Owns the policy as an operator writes it: frozen pydantic models, unknown keys refused. Reference: docs/policy.md.

Refuses I/O: references to files and environment variables stay references here and are resolved in `compile.py`.
Every constraint that needs one field only is a model's; whatever spans several is checked while compiling.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictBool, StrictInt, StringConstraints

from paymesh.payments.policy.adapter_documents import AdapterDocument
from paymesh.payments.policy.callers import Scheme
from paymesh.payments.policy.channel_documents import (
    CardsDocument,
    FeeScheduleDocument,
    HoursDocument,
    StrategyDocument,
)
from paymesh.payments.policy.compiled import (
    EventsOnError,
    IdempotencyKey,
    Operation,
    Protocol,
    UnknownOrders,
)
from paymesh.payments.policy.credential_documents import (
    CredentialDocument,
    JwtIssuerDocument,
    NotificationDocument,
    ResponseSignerDocument,
)
from paymesh.payments.policy.field_documents import (
    BodyDocument,
    FieldsDocument,
    KeyRingDocument,
    SanitizeDocument,
    ValidationDocument,
)
from paymesh.payments.policy.gateway_document import GatewayDocument, LocalRateLimitDocument
from paymesh.payments.policy.limit_documents import LimitSizeDocument, RateLimitDocument
from paymesh.payments.policy.merchant_table_document import MerchantTableDocument
from paymesh.payments.policy.observability_document import ObservabilityDocument
from paymesh.payments.policy.route_documents import (
    CookieMatchDocument,
    FallbackDocument,
    FaultInjectionDocument,
    HeaderName,
    HeaderToAddDocument,
    PathPrefix,
    RequestMirrorDocument,
    ResponseCacheDocument,
    RetryPolicyDocument,
)
from paymesh.payments.policy.service_documents import HostName, ServiceDocument
from paymesh.payments.policy.user_documents import UserProviderDocument
from paymesh.payments.policy.values import (
    Currency,
    Document,
    Identifier,
    Method,
    Milliseconds,
    Name,
)


class AmountRangeDocument(Document):
    """What one payment of a merchant may be in one currency."""

    currency: Currency = "CNY"
    min: StrictInt = Field(1, ge=0, description="Smallest amount, integer minor units.")
    max: StrictInt = Field(ge=0, description="Largest amount, integer minor units.")


class MerchantDocument(Document):
    id: Identifier = Field(description="Sent upstream as `x-pay-merchant`.")
    credentials: tuple[CredentialDocument, ...] = Field(
        min_length=1, description="All are valid at once: add the new key, move the merchant, remove the old one."
    )
    rate_limits: dict[str, LimitSizeDocument] = Field(
        default_factory=dict, description="Sizes for this merchant, by rate limit name."
    )
    tier: Name | None = Field(None, description="Its tier: rate limits may have sizes for it.")
    routes: tuple[Name, ...] | None = Field(
        None, description="The routes it may call; absent: every one that takes its credentials."
    )
    operations: tuple[Operation, ...] | None = Field(None, description="The operations it may ask for; absent: any.")
    app_ids: tuple[Identifier, ...] | None = Field(
        None,
        description="App ids that its requests may name; absent: those of its credentials, or any if they have none.",
    )
    amounts: tuple[AmountRangeDocument, ...] | None = Field(
        None,
        description="Bounds of its payments, one a currency; another currency is refused. Absent: any.",
    )
    products: tuple[Name, ...] | None = Field(None, description="Products that it may sell; absent: any.")
    channels: tuple[Name, ...] | None = Field(
        None, description="Channels that its contract lets its payments go through; absent: any."
    )
    fees: dict[Name, tuple[FeeScheduleDocument, ...]] = Field(
        default_factory=dict, description="By channel: what it is charged there instead of the channel's own fees."
    )
    order_no_prefix: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{1,8}$")] | None = Field(
        None,
        description="Put before its order numbers at providers whose account several merchants share (`adapter`).",
    )
    sandbox: StrictBool = Field(
        False, description="Its refused signatures show the string to sign. For trying out, never for money."
    )


class AmountBoundsDocument(Document):
    min: StrictInt = Field(1, ge=0, description="Smallest amount, integer minor units.")
    max: StrictInt | None = Field(None, ge=0, description="Largest amount, integer minor units.")


class ChannelDocument(Document):
    """A way for money to move. It is eligible for a payment when all that it states fits."""

    name: Name = Field(description="Sent upstream as `x-pay-channel`.")
    service: Name = Field(description="The service that takes this channel's payments.")
    operations: tuple[Operation, ...] = Field((Operation.PAY,), min_length=1)
    products: tuple[Name, ...] | None = Field(None, description="Products it takes; absent: any.")
    currencies: tuple[Currency, ...] = Field(("CNY",), min_length=1)
    amount: AmountBoundsDocument = AmountBoundsDocument()
    priority: StrictInt = Field(100, ge=0, le=10_000, description="Lower goes first; equal ones in the route's order.")
    fees: tuple[FeeScheduleDocument, ...] = Field((), description="What it charges, one a currency.")
    cards: CardsDocument | None = Field(None, description="Absent: any payment, by card or not.")
    hours: HoursDocument | None = Field(None, description="When it is open; absent: always.")
    protocols: tuple[Protocol, ...] | None = Field(
        None,
        min_length=1,
        description="Whose messages its service reads: it takes payments in these only. Absent: any; with an adapter: "
        "paymesh.",
    )
    adapter: AdapterDocument | None = Field(
        None, description="Absent: its service takes messages as merchants send them."
    )
    notifications: NotificationDocument | None = None


class HeaderMatchDocument(Document):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9!#$%&'*+.^_`|~-]+$")] = Field(description="Lower case.")
    exact: str | None = Field(None, description="Absent: the header must be present.")


class QueryMatchDocument(Document):
    name: Annotated[str, StringConstraints(min_length=1)]
    exact: str | None = Field(None, description="Absent: the parameter must be present.")


class MatchDocument(Document):
    """Exactly one of path, path_template and prefix. More specific routes are tried first: `path` before
    `path_template` (fewer `{name}`s, and later ones, first) before `prefix` (longer ones first); then those with more
    headers, cookies, query parameters and methods; then with more exact values; then with fewer methods; then in the
    order of the documents. A route that others leave no request for is refused."""

    path: str | None = Field(None, description="The whole path, without query.")
    path_template: str | None = Field(None, description="`{name}` stands for one segment: /v1/payments/{order_no}.")
    prefix: str | None = Field(None, description="The path begins with it, compared as Envoy's `prefix`.")
    methods: tuple[Method, ...] = Field((), description="Empty: any method.")
    headers: tuple[HeaderMatchDocument, ...] = ()
    query_parameters: tuple[QueryMatchDocument, ...] = ()
    cookies: tuple[CookieMatchDocument, ...] = ()
    signed_parameters: dict[Name, Annotated[str, StringConstraints(min_length=1)]] = Field(
        default_factory=dict,
        description="Of Alipay v2 and UnionPay: verified parameters, such as {method: alipay.trade.query}, that tell "
        "apart routes with the same match. Compared after the signature verified, wherever the parameter stood.",
    )


class RouteDocument(Document):
    name: Name
    match: MatchDocument
    operation: Operation
    schemes: tuple[Scheme, ...] = Field((), description="Any of these lets a caller in.")
    fields: FieldsDocument = FieldsDocument()
    rate_limits: tuple[Name, ...] = ()
    local_rate_limit: LocalRateLimitDocument | None = Field(
        None,
        description="Of all requests to this route in each Envoy, in place of the gateway's. Not on routes that share "
        "their match with others (signed_parameters).",
    )
    channels: tuple[Name, ...] = Field(
        (),
        description="Candidates of a pay route; the notified one of a notify route. On a query, refund or close route: "
        "those that orders may have been paid through; each request goes where its order went.",
    )
    channel_selection: tuple[StrategyDocument, ...] = Field(
        (),
        description="How a pay route chooses among the channels that may take a payment: each strategy leaves some of "
        "them, and of the last ones the first by priority takes it. Absent: by priority.",
    )
    service: Name | None = Field(None, description="Required unless the route goes by channels.")
    body: BodyDocument = BodyDocument()
    validation: ValidationDocument = ValidationDocument()
    sanitize: SanitizeDocument = SanitizeDocument()
    open_order: StrictBool = Field(
        False, description="On a pay route: refuse an order that is known here as paid or closed."
    )
    observe_response: StrictBool | None = Field(
        None,
        description="Read the outcome from the answer; default: pay, query, refund and close, where the protocol's "
        "answers are read (WeChat Pay v3, Alipay v2 and v3, UnionPay, generic merchants).",
    )
    scopes: tuple[Identifier, ...] = Field((), description="Scopes that a JWT must have, all of them.")
    users: tuple[Name, ...] = Field(
        (), description="User providers, any of which may say who the person is; sent upstream as `x-pay-user`."
    )
    idempotency_key: IdempotencyKey = Field(
        IdempotencyKey.OPTIONAL, description="Whether a request must have the Idempotency-Key header."
    )
    events_on_error: EventsOnError = Field(
        EventsOnError.REFUSE,
        description="While the event log is away: refuse payments, or spool their events in a file (--events-spool).",
    )
    unknown_orders: UnknownOrders = Field(
        UnknownOrders.REFUSE, description="On a notify route: what happens when the order never passed here."
    )
    timeout: Milliseconds = Field(15_000, description="Of the whole answer, such as 15s.")
    idle_timeout: Milliseconds | None = Field(
        None, description="The longest silence in an exchange, the service's and the caller's. Absent: timeout alone."
    )
    safe_to_repeat: StrictBool = Field(
        False, description="Of query and other routes: a service that sees a request twice does no harm."
    )
    retry_policy: RetryPolicyDocument | None = Field(None, description="Absent: nothing is sent twice.")
    fault_injection: FaultInjectionDocument | None = None
    fallback: FallbackDocument | None = Field(None, description="Absent: 503 in the caller's protocol.")
    request_mirror_policies: tuple[RequestMirrorDocument, ...] = Field(
        (), description="Of routes with safe_to_repeat: true. The copies have the caller's headers and the gateway's."
    )
    request_headers_to_add: tuple[HeaderToAddDocument, ...] = Field(
        (), description="For the service. Never the gateway's own headers, nor those that frame or prove a request."
    )
    request_headers_to_remove: tuple[HeaderName, ...] = Field(
        (), description="Not sent to the service, such as authorization on a jwt route. As above."
    )
    prefix_rewrite: PathPrefix | None = Field(
        None, description="In place of match.prefix, for the service. Only where callers sign nothing."
    )
    host_rewrite: HostName | None = Field(None, description="The Host that the service sees.")
    response_cache: ResponseCacheDocument | None = Field(
        None, description="Refused, on any route: Envoy's cache could answer one merchant with another's."
    )
    max_body_bytes: StrictInt = Field(65_536, ge=1, le=10_485_760, description="A larger body is answered 413.")
    max_response_bytes: StrictInt = Field(
        1_048_576, ge=1, le=16_777_216, description="The largest answer that is sanitised; see unreadable_answers."
    )


class PolicyDocument(Document):
    """One set of YAML documents, in a file or a folder. Lists of the same name in several files are joined."""

    merchants: tuple[MerchantDocument, ...] = ()
    routes: tuple[RouteDocument, ...] = ()
    channels: tuple[ChannelDocument, ...] = ()
    services: tuple[ServiceDocument, ...] = ()
    rate_limits: tuple[RateLimitDocument, ...] = ()
    jwt_issuers: tuple[JwtIssuerDocument, ...] = ()
    user_providers: tuple[UserProviderDocument, ...] = ()
    response_signers: tuple[ResponseSignerDocument, ...] = ()
    field_keys: tuple[KeyRingDocument, ...] = ()
    merchant_table: MerchantTableDocument | None = None
    observability: ObservabilityDocument | None = None
    gateway: GatewayDocument | None = None
