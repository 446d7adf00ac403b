"""Owns the policy as an operator writes it: frozen pydantic models, unknown keys refused. Reference: docs/policy.md.

Refuses I/O: references to files and environment variables stay references here and are resolved in `compile.py`.
Every constraint that needs one field only is a model's; whatever spans several is checked while compiling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from paymesh.payments.percent import parse_percent
from paymesh.payments.policy.compiled import TOTAL_WEIGHT, MaskKind, Operation, SanitizeAction, Scheme

_INTERPOLATION = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_DURATION = re.compile(r"^(\d+)(ms|s)$")


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """Replace `${NAME}` and `${NAME:-default}`; raises ValueError for a name that is unset and has no default."""

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = environ.get(name, default)
        if found is None:
            raise ValueError(f"environment variable {name} is not set and has no default")
        return found

    return _INTERPOLATION.sub(value, text)


def _interpolated(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    return interpolate(value, (info.context or {}).get("environ", {}))


def _port(value: object, info: ValidationInfo) -> object:
    found = _interpolated(value, info)
    return int(found) if isinstance(found, str) and found.isdecimal() and found.isascii() else found


def _milliseconds(value: object) -> object:
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration is a whole number with its unit, such as 500ms or 15s")
    return int(match.group(1)) * (1000 if match.group(2) == "s" else 1)


def _pointer(value: object) -> object:
    if not isinstance(value, str) or not value.startswith("/") or len(value) < 2:
        raise ValueError("a field is a JSON pointer (RFC 6901), such as /amount/total")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in value[1:].split("/"))


def _percent_to_weight(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        # ValueError, not TypeError: pydantic reports only the former.
        raise ValueError("a weight is a percentage such as 10 or '0.25' (quoted: never a binary float)")  # noqa: TRY004
    weight = parse_percent(str(value))
    if weight is None:
        raise ValueError("a weight is a percentage with at most two decimals, such as 10 or '0.25'")
    if weight > TOTAL_WEIGHT:
        raise ValueError("a weight is at most 100 percent")
    return weight


WRITTEN_AS: Mapping[object, str] = {
    _milliseconds: "duration",
    _percent_to_weight: "percentage",
    _pointer: "JSON pointer",
    _port: "port",
}
"""What a value is called where it is written otherwise than it is kept."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:@-]{1,64}$")]
Interpolated = Annotated[str, BeforeValidator(_interpolated), StringConstraints(min_length=1)]
Port = Annotated[StrictInt, BeforeValidator(_port), Field(ge=1, le=65535)]
Milliseconds = Annotated[int, BeforeValidator(_milliseconds), Field(ge=1, le=300_000)]
Pointer = Annotated[tuple[str, ...], BeforeValidator(_pointer)]
Weight = Annotated[int, BeforeValidator(_percent_to_weight)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""ISO 4217 alphabetic code."""


class Document(BaseModel):
    # Integers and booleans below are strict: "5" is not 5, so that a typing slip is an error and not a guess.
    model_config = ConfigDict(frozen=True, extra="forbid")


class SecretReference(Document):
    """Where a secret is: never the secret itself."""

    env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        None, description="Name of the environment variable that holds the secret."
    )
    file: Interpolated | None = Field(
        None, description="File that holds the secret, relative to this policy file. One trailing newline is dropped."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretReference:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret is given by exactly one of env and file")
        return self


class FileReference(Document):
    file: Interpolated = Field(description="File with the PEM text, relative to this policy file.")


PublicKeySource = Annotated[str, StringConstraints(min_length=1)] | FileReference


class WechatCredentialDocument(Document):
    """WeChat Pay v3 request signatures (`WECHATPAY2-SHA256-RSA2048`)."""

    scheme: Literal["wechat_v3"]
    mchid: Identifier = Field(description="The merchant number that WeChat Pay gave.")
    serial_no: Identifier | None = Field(
        None,
        description="Certificate serial (hex, either case) or PUB_KEY_ID_...; read from the certificate if absent.",
    )
    public_key: PublicKeySource = Field(
        description="The merchant's RSA public key or certificate: PEM text or {file: ...}."
    )


class HmacCredentialDocument(Document):
    """paymesh's own HMAC-SHA256 scheme for merchants without a provider protocol."""

    scheme: Literal["hmac"]
    key_id: Identifier = Field(description="Sent by the merchant as `Paymesh-Key`.")
    secret: SecretReference = Field(description="The shared secret, at least 16 bytes.")


CredentialDocument = Annotated[WechatCredentialDocument | HmacCredentialDocument, Field(discriminator="scheme")]


class BucketDocument(Document):
    """A token bucket's size."""

    requests_per_second: StrictInt = Field(ge=1, le=1_000_000, description="Tokens that come back each second.")
    burst: StrictInt = Field(ge=1, le=10_000_000, description="Tokens the bucket holds when full.")


class MerchantDocument(Document):
    id: Identifier = Field(description="Sent upstream as `x-pay-merchant`.")
    credentials: tuple[CredentialDocument, ...] = Field(
        min_length=1, description="All are valid at once: add the new key, move the merchant, remove the old one."
    )
    rate_limits: dict[str, BucketDocument] = Field(
        default_factory=dict, description="Sizes for this merchant, by rate limit name."
    )


class RateLimitDocument(BucketDocument):
    name: Name
    key: Literal["merchant"] = Field("merchant", description="Every merchant has a bucket of its own.")


class PlatformKeyDocument(Document):
    serial_no: Identifier = Field(description="`Wechatpay-Serial`: certificate serial or PUB_KEY_ID_...")
    public_key: PublicKeySource


class NotificationDocument(Document):
    """What is needed to read a provider's signed and encrypted notifications."""

    scheme: Literal["wechat_v3_notification"]
    platform_keys: tuple[PlatformKeyDocument, ...] = Field(min_length=1)
    apiv3_key: SecretReference = Field(description="The 32-byte APIv3 key.")


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


class FieldsDocument(Document):
    """Where the JSON body keeps what is decided on (JSON pointers)."""

    order_no: Pointer | None = None
    amount: Pointer | None = Field(None, description="Integer minor units.")
    currency: Pointer | None = Field(None, description="ISO 4217 code; a body without it means default_currency.")
    default_currency: Currency = "CNY"
    product: Pointer | None = None
    fixed_product: Name | None = Field(None, description="The product of a route that serves one only.")
    required: tuple[Pointer, ...] = Field((), description="Members that must be there and not null.")


class HashKeyDocument(Document):
    id: Name = Field(description="Written into the hashed value, so that keys can be rotated.")
    secret: SecretReference = Field(description="At least 16 bytes.")


class SanitizeRuleDocument(Document):
    field: Pointer
    action: SanitizeAction
    kind: MaskKind = Field(MaskKind.ALL, description="What a masked value is: decides what stays readable.")
    hash_key: HashKeyDocument | None = Field(None, description="Required for hash, refused elsewhere.")


class SanitizeDocument(Document):
    request: tuple[SanitizeRuleDocument, ...] = ()


class RouteDocument(Document):
    name: Name
    match: MatchDocument
    operation: Operation
    schemes: tuple[Scheme, ...] = Field((), description="Any of these lets a caller in.")
    fields: FieldsDocument = FieldsDocument()
    rate_limits: tuple[Name, ...] = ()
    channels: tuple[Name, ...] = Field((), description="Candidates of a pay route; the notified one of a notify route.")
    service: Name | None = Field(None, description="Required unless channels are selected.")
    sanitize: SanitizeDocument = SanitizeDocument()
    observe_response: StrictBool | None = Field(
        None, description="Read the outcome from the answer; default: pay, query, refund, close."
    )
    timeout: Milliseconds = Field(15_000, description="Of the whole answer, such as 15s.")
    max_body_bytes: StrictInt = Field(65_536, ge=1, le=10_485_760, description="A larger body is answered 413.")


class PolicyDocument(Document):
    """One set of YAML documents, in a file or a folder. Lists of the same name in several files are joined."""

    merchants: tuple[MerchantDocument, ...] = ()
    routes: tuple[RouteDocument, ...] = ()
    channels: tuple[ChannelDocument, ...] = ()
    services: tuple[ServiceDocument, ...] = ()
    rate_limits: tuple[RateLimitDocument, ...] = ()
