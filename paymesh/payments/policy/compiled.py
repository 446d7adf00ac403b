"""Owns the compiled policy: frozen objects with keys parsed and references resolved, ready for the request path.

Refuses I/O and YAML: documents are read in `load.py` and turned into these in `compile.py`. A reload builds a
whole new `Policy`; a request keeps the one it began with.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from paymesh.payments.bodies.limits import DEFAULT_READING, Reading
from paymesh.payments.bodies.pointer import JsonPointer
from paymesh.payments.fees import FeeSchedule
from paymesh.payments.jose.keys import JwkSet
from paymesh.payments.merchant_table.settings import MerchantTable
from paymesh.payments.policy.callers import Algorithm, CredentialKey, KeyRef, Merchant, Scheme
from paymesh.payments.policy.certificates import CertificateTrust
from paymesh.payments.policy.channel_rules import CardLimits, OpeningHours, Strategy, Watch
from paymesh.payments.policy.field_rules import (
    NO_VALIDATION,
    KeyRing,
    Place,
    SanitizeRule,
    UnreadableAnswers,
    Validation,
)
from paymesh.payments.policy.forwarding import PLAIN, Forwarding
from paymesh.payments.policy.rate_limits import RateLimit
from paymesh.payments.policy.upstreams import Dns, Upstream
from paymesh.payments.secrets import Secret
from paymesh.payments.signers import Signer
from paymesh.payments.users.providers import UserProvider

if TYPE_CHECKING:  # adapters are written in terms of this module
    from paymesh.payments.adapters.adapted import AdaptedChannel

TOTAL_WEIGHT = 10_000
"""The sum of a service's version weights, always: 0.01% steps, and growing a canary never reshuffles (DESIGN 6)."""


class Operation(enum.StrEnum):
    """What a request does, from the policy; sent upstream as `x-pay-operation`."""

    PAY = "pay"
    QUERY = "query"
    REFUND = "refund"
    CLOSE = "close"
    NOTIFY = "notify"
    BILL = "bill"
    LOGIN = "login"
    OTHER = "other"


class Protocol(enum.StrEnum):
    """The language a caller speaks: how refusals look, how outcomes are read, how amounts are written."""

    WECHAT_V3 = "wechat_v3"
    WECHAT_NOTIFICATION = "wechat_notification"
    ALIPAY_V2 = "alipay_v2"
    ALIPAY_V3 = "alipay_v3"
    ALIPAY_NOTIFICATION = "alipay_notification"
    UNIONPAY = "unionpay"
    UNIONPAY_NOTIFICATION = "unionpay_notification"
    PAYMESH = "paymesh"


class AmountNotation(enum.StrEnum):
    """How a protocol writes an amount of money."""

    MINOR_UNITS = "minor_units"
    """A JSON integer of minor units."""
    DECIMAL_TEXT = "decimal_text"
    """Major units as text with at most two decimals, such as "88.88"."""
    MINOR_UNITS_TEXT = "minor_units_text"
    """Minor units as digits in a text."""


class IdempotencyKey(enum.StrEnum):
    """What a route says of the `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header-07)."""

    OPTIONAL = "optional"
    REQUIRED = "required"
    IGNORED = "ignored"
    """It is the service's own affair; bodies need not be kept for comparing."""


class UnknownOrders(enum.StrEnum):
    """What happens to a notification about an order that never passed here."""

    REFUSE = "refuse"
    """The provider sends it again later."""
    PASS = "pass"  # noqa: S105 - no password
    """For orders from before this gateway: passed, without `x-pay-order: matched`."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Where a route's JSON body keeps the facts that decide: None means the route has no such fact."""

    order_no: JsonPointer | None = None
    order_no_place: Place = Place.BODY
    order_no_otherwise: tuple[JsonPointer, ...] = ()
    """Where it may stand instead, if `order_no` has nothing; the first one counts."""
    amount: JsonPointer | None = None
    """Integer minor units."""
    currency: JsonPointer | None = None
    default_currency: str = "CNY"
    original_order_no: JsonPointer | None = None
    """Of a refund route: the payment's number; `order_no` is the refund's own."""
    original_order_no_place: Place = Place.BODY
    product: JsonPointer | None = None
    fixed_product: str | None = None
    app_id: JsonPointer | None = None
    app_id_if_there: tuple[JsonPointer, ...] = ()
    """Where the protocol itself has it; not required."""
    card_no: JsonPointer | None = None
    card_type: JsonPointer | None = None
    """Of pay routes, which have other facts, too: they alone are no reason to read a body."""
    required: tuple[JsonPointer, ...] = ()
    amount_notation: AmountNotation = AmountNotation.MINOR_UNITS

    @property
    def asked_for(self) -> bool:
        """Whether a body must be read for them."""
        order_no = self.order_no if self.order_no_place is Place.BODY else None
        original = self.original_order_no if self.original_order_no_place is Place.BODY else None
        return any((order_no, original, self.amount, self.currency, self.product, self.app_id, self.required))


@dataclass(frozen=True, slots=True)
class Channel:
    """A way for money to move. Eligible when operation, product, currency and amount (minor units) all fit."""

    name: str
    service: str
    operations: frozenset[Operation]
    products: frozenset[str] | None
    """None: any product."""
    currencies: frozenset[str]
    min_amount: int
    max_amount: int | None
    priority: int
    """Lower goes first; equal priorities keep the route's order."""
    fees: Mapping[str, FeeSchedule] = field(default_factory=dict)
    """By currency; a merchant may have its own."""
    cards: CardLimits | None = None
    """None: any payment, by card or not."""
    hours: OpeningHours | None = None
    """None: always open."""
    protocols: frozenset[Protocol] | None = None
    """Whose messages its service reads; None: any that its routes take."""
    adapted: bool = False
    """Generic orders are written as its provider's own (`Policy.adapted`)."""


@dataclass(frozen=True, slots=True)
class JwtIssuer:
    """Whose tokens are believed, and for what."""

    name: str
    issuer: str
    """The exact `iss`."""
    audiences: tuple[str, ...]
    algorithms: frozenset[Algorithm]
    leeway_s: int
    keys: JwkSet | str
    """A set read with the policy, or the URL of one."""


@dataclass(frozen=True, slots=True)
class Notifications:
    """How to read one channel's notifications, besides the provider's keys."""

    scheme: Scheme
    apiv3_key: Secret | None = None
    """WeChat Pay v3 only."""


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A header that must be present (`exact` None) or equal `exact`. `name` is lower case."""

    name: str
    exact: str | None


@dataclass(frozen=True, slots=True)
class QueryMatch:
    """A query parameter that must be present (`exact` None) or equal `exact`, compared as Envoy does."""

    name: str
    exact: str | None


@dataclass(frozen=True, slots=True)
class CookieMatch:
    """A cookie that must be present (`exact` None) or equal `exact`: raw text, quotes included."""

    name: str
    exact: str | None


TEMPLATE_SEGMENT = re.compile(r"\{([a-z][a-z0-9_]*)\}")
"""A whole segment of a path template, and its name."""


class PathKind(enum.IntEnum):
    """Ordered by specificity: lower is tried first."""

    EXACT = 0
    TEMPLATE = 1
    PREFIX = 2


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """When a request belongs to a route. Path matches see the path without its query.

    `path_regex` is set for templates: `{name}` stands for one non-empty segment. It is valid in RE2 and in `re` alike.
    """

    path_kind: PathKind
    path: str
    path_regex: str | None
    methods: frozenset[str]
    """Empty: any method."""
    headers: tuple[HeaderMatch, ...] = ()
    query_parameters: tuple[QueryMatch, ...] = ()
    cookies: tuple[CookieMatch, ...] = ()


class EventsOnError(enum.StrEnum):
    """What a payment does whose attempt cannot be written to the event log."""

    REFUSE = "refuse"
    SPOOL = "spool"
    """Wait in a file of this machine until it can."""


MOVING_MONEY = (Operation.PAY, Operation.REFUND)
"""Operations that begin an order, and are an event before they leave."""


FOLLOWING = (Operation.QUERY, Operation.REFUND, Operation.CLOSE)
"""Operations on an order that was begun: they may go where its payment went."""


@dataclass(frozen=True, slots=True)
class LocalRateLimit:
    """A token bucket in each Envoy. `enforced` False: it counts only."""

    requests_per_second: int
    burst: int
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class AdaptiveConcurrency:
    """Envoy's gradient controller: requests at work go down while latencies are above what an idle service takes, which
    is known (`fixed_min_rtt_ms`) or measured (`measure_every_ms`), and `buffer_percent` more."""

    percentile: int
    update_interval_ms: int
    max_concurrency: int
    min_concurrency: int
    fixed_min_rtt_ms: int | None
    measure_every_ms: int | None
    measure_requests: int
    jitter_percent: int
    buffer_percent: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """What Envoy itself limits, whoever calls."""

    local_rate_limit: LocalRateLimit | None = None
    adaptive_concurrency: AdaptiveConcurrency | None = None
    allow_fault_injection: bool = False
    """A trial gateway: Envoy may delay and abort requests on purpose."""


@dataclass(frozen=True, slots=True)
class Route:
    name: str
    match: RouteMatch
    operation: Operation
    schemes: tuple[Scheme, ...]
    protocol: Protocol
    fields: Fields
    rate_limits: tuple[RateLimit, ...]
    """All are asked in one call: early, or late where one of them needs what is known only then."""
    channels: tuple[Channel, ...]
    """Candidates for a pay route, by priority; the one notified for a notify route. Of a query, refund or close route:
    those that its order may have been paid through, whose own takes it; empty: `service` does."""
    channel_selection: tuple[Strategy, ...] = field(default=(), kw_only=True)
    """Each leaves fewer candidates, or the same; of those that all of them leave, the first takes the payment."""
    service: str | None
    """The service of a route that goes by no channel."""
    sanitize_request: tuple[SanitizeRule, ...]
    observe_response: bool
    timeout_ms: int
    forwarding: Forwarding = PLAIN
    local_rate_limit: LocalRateLimit | None = None
    """Envoy's own, in place of the gateway's."""
    limits_known_late: bool = False
    """Fields, user or channel decide which of the limits' counters is meant."""
    notifications: Notifications | None = None
    """Of a notify route."""
    scopes: frozenset[str] = frozenset()
    """That a token must have, all of them."""
    users: tuple[str, ...] = ()
    """Names of the user providers; any of them may say who the person is."""
    idempotency_key: IdempotencyKey = IdempotencyKey.OPTIONAL
    unknown_orders: UnknownOrders = UnknownOrders.REFUSE
    signed_parameters: tuple[tuple[str, str], ...] = ()
    """Verified parameters (name, value) that a request of this route has; empty on routes of their own."""
    sanitize_head: tuple[SanitizeRule, ...] = ()
    """Of path, query and headers; `sanitize_request` is of the body."""
    validation: Validation = NO_VALIDATION
    sanitize_response: tuple[SanitizeRule, ...] = ()
    sign_again: bool = False
    """Sign every answer with the gateway's own key (`Policy.signers`), which the merchants are told to trust."""
    unreadable_answers: UnreadableAnswers = UnreadableAnswers.WITHHOLD
    request_reading: Reading = DEFAULT_READING
    response_reading: Reading = DEFAULT_READING
    events_on_error: EventsOnError = EventsOnError.REFUSE
    open_order: bool = False
    """Of a pay route: refuse an order that is known here as paid or closed."""
    needs_body: bool = True
    """Whether anything is decided by the request's body. If not, Envoy never buffers it."""
    variants: tuple[Route, ...] = ()
    """Of an entry route: the routes that share its match and are told apart by `signed_parameters`, which are known
    only when the signature has verified. Otherwise empty."""

    @property
    def selects_channel(self) -> bool:
        return self.operation is Operation.PAY

    @property
    def follows_channel(self) -> bool:
        """Whether it goes where its order's payment went."""
        return self.operation in FOLLOWING and bool(self.channels)

    @property
    def by_channel(self) -> bool:
        """Whether a decision must have named a channel before it has a service."""
        return self.selects_channel or self.follows_channel

    @property
    def max_body_bytes(self) -> int:
        """A larger body of a request is answered 413."""
        return self.request_reading.limits.max_bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class ServiceVersion:
    name: str
    endpoints: tuple[Endpoint, ...]
    initial_weight: int
    """Of TOTAL_WEIGHT; a recorded `set-weight` wins over it."""
    dns: Dns | None = None
    """In place of endpoints: Envoy finds them."""
    endpoints_file: Path | None = None
    """In place of endpoints: the control plane reads them."""


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    versions: tuple[ServiceVersion, ...]
    """In the order of the weighted cluster, which never changes while weights move. With three the middle is stable."""
    upstream: Upstream

    @property
    def split_salt(self) -> str:
        """Salts `x-pay-split`, so that two services do not send the same merchants to their canaries first."""
        return self.name


class TracingProtocol(enum.StrEnum):
    OPENTELEMETRY = "opentelemetry"
    """OTLP over gRPC."""
    ZIPKIN = "zipkin"
    """JSON, version 2."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where Envoy sends spans. `address`: IP address or host name; `sampling`: of TOTAL_WEIGHT requests.

    `continue_traces`: a client's own trace goes on.
    """

    protocol: TracingProtocol
    address: str
    port: int
    sampling: int
    continue_traces: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything a request is decided by. `version` is the hash of the documents and of every file they refer to."""

    version: str
    routes: tuple[Route, ...]
    """In match order: most specific first, equal ones in document order."""
    services: Mapping[str, Service]
    channels: Mapping[str, Channel]
    merchants: Mapping[str, Merchant]
    keys: Mapping[KeyRef, tuple[CredentialKey, ...]]
    """Every key written in the documents, merchants' and providers'."""
    identities: Mapping[KeyRef, Merchant]
    """Whose an mchid, an app id, a mer_id or a token's subject is."""
    certificates: Mapping[str, CertificateTrust]
    """By channel: whose certificates may come with its notifications."""
    user_providers: Mapping[str, UserProvider]
    jwt_issuers: Mapping[str, JwtIssuer]
    """By `iss`."""
    signers: Mapping[Protocol, Signer]
    """What signs our own answers, by the protocol whose SDKs verify them."""
    routes_by_name: Mapping[str, Route] = field(repr=False)
    """Entry routes and their variants included."""
    field_keys: Mapping[str, KeyRing] = field(default_factory=dict)
    rate_limits: Mapping[str, RateLimit] = field(default_factory=dict)
    """Every one, whatever routes have it: Envoy's own rate-limit filter may ask for any."""
    settles_orders: bool = False
    """Whether a route asks if an order is paid or closed: only then is it worth remembering."""
    holds_slots: bool = False
    """Whether a rate limit counts what is in flight: then every end of a request counts, also of one that was never
    decided."""
    moves_money: bool = False
    """Whether a route does: then every end of a request counts, as above."""
    merchant_table: MerchantTable | None = None
    """Where merchants are that no document has."""
    tracing: Tracing | None = None
    gateway: Gateway = Gateway()
    adapted: Mapping[str, AdaptedChannel] = field(default_factory=dict)
    """By channel: who writes its messages, and as whom."""
    channel_watches: Mapping[str, tuple[Watch, ...]] = field(default_factory=dict)
    """By channel: how its payment outcomes are counted. Others' are not."""
