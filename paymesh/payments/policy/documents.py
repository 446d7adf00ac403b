"""Owns the policy as an operator writes it: frozen pydantic models, unknown keys refused. Reference: docs/policy.md.

Refuses I/O: references to files and environment variables stay references here and are resolved in `compile.py`.
Every constraint that needs one field only is a model's; whatever spans several is checked while compiling.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictBool, StrictInt, StringConstraints

from paymesh.payments.policy.callers import Scheme
from paymesh.payments.policy.compiled import (
    TOTAL_WEIGHT,
    IdempotencyKey,
    Operation,
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
from paymesh.payments.policy.limit_documents import LimitSizeDocument, RateLimitDocument
from paymesh.payments.policy.merchant_table_document import MerchantTableDocument
from paymesh.payments.policy.observability_document import ObservabilityDocument
from paymesh.payments.policy.user_documents import UserProviderDocument
from paymesh.payments.policy.values import (
    Currency,
    Document,
    Identifier,
    Interpolated,
    Method,
    Milliseconds,
    Name,
    Port,
    Weight,
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
    notifications: NotificationDocument | None = None


class EndpointDocument(Document):
    address: Interpolated = Field(description="IP address.")
    port: Port


class VersionDocument(Document):
    name: Name
    endpoints: tuple[EndpointDocument, ...] = Field(min_length=1)
    weight: Weight = Field(
        TOTAL_WEIGHT, description="Percent of the traffic at first, in steps of 0.01; `set-weight` wins over it."
    )


class ServiceDocument(Document):
    """What Envoy routes to. Its versions share one weighted cluster, in the order given here."""

    name: Name
    versions: tuple[VersionDocument, ...] = Field(
        min_length=1, max_length=3, description="With three, the stable version stands in the middle."
    )
    connect_timeout: Milliseconds = Field(1000, description="Such as 500ms or 1s.")


class HeaderMatchDocument(Document):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9!#$%&'*+.^_`|~-]+$")] = Field(description="Lower case.")
    exact: str | None = Field(None, description="Absent: the header must be present.")


class QueryMatchDocument(Document):
    name: Annotated[str, StringConstraints(min_length=1)]
    exact: str | None = Field(None, description="Absent: the parameter must be present.")


class MatchDocument(Document):
    """Exactly one of path, path_template and prefix. More specific routes are tried first."""

    path: str | None = Field(None, description="The whole path, without query.")
    path_template: str | None = Field(None, description="`{name}` stands for one segment: /v1/payments/{order_no}.")
    prefix: str | None = Field(None, description="The path begins with it, compared as Envoy's `prefix`.")
    methods: tuple[Method, ...] = Field((), description="Empty: any method.")
    headers: tuple[HeaderMatchDocument, ...] = ()
    query_parameters: tuple[QueryMatchDocument, ...] = ()
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
    channels: tuple[Name, ...] = Field((), description="Candidates of a pay route; the notified one of a notify route.")
    service: Name | None = Field(None, description="Required unless channels are selected.")
    body: BodyDocument = BodyDocument()
    validation: ValidationDocument = ValidationDocument()
    sanitize: SanitizeDocument = SanitizeDocument()
    open_order: StrictBool = Field(
        False, description="On a pay route: refuse an order that is known here as paid or closed."
    )
    observe_response: StrictBool | None = Field(
        None,
        description="Read the outcome from the answer; default: pay, query, refund and close, where the protocol's "
        "answers are read (WeChat Pay v3, generic merchants).",
    )
    scopes: tuple[Identifier, ...] = Field((), description="Scopes that a JWT must have, all of them.")
    users: tuple[Name, ...] = Field(
        (), description="User providers, any of which may say who the person is; sent upstream as `x-pay-user`."
    )
    idempotency_key: IdempotencyKey = Field(
        IdempotencyKey.OPTIONAL, description="Whether a request must have the Idempotency-Key header."
    )
    unknown_orders: UnknownOrders = Field(
        UnknownOrders.REFUSE, description="On a notify route: what happens when the order never passed here."
    )
    timeout: Milliseconds = Field(15_000, description="Of the whole answer, such as 15s.")
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
