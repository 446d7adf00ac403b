"""Owns who may call, compiled: merchants, and the keys that prove a merchant or a provider. Refuses I/O."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from paymesh.payments.fees import FeeSchedule


class Scheme(enum.StrEnum):
    """How a caller proves who it is, as a route names it."""

    WECHAT_V3 = "wechat_v3"
    WECHAT_V3_NOTIFICATION = "wechat_v3_notification"
    ALIPAY_V2 = "alipay_v2"
    ALIPAY_V3 = "alipay_v3"
    ALIPAY_NOTIFICATION = "alipay_notification"
    UNIONPAY = "unionpay"
    UNIONPAY_NOTIFICATION = "unionpay_notification"
    HMAC = "hmac"
    HTTP_SIGNATURE = "http_signature"
    JWT = "jwt"
    MTLS = "mtls"


NOTIFICATION_SCHEMES = frozenset(
    {Scheme.WECHAT_V3_NOTIFICATION, Scheme.ALIPAY_NOTIFICATION, Scheme.UNIONPAY_NOTIFICATION}
)
"""A provider calls, not a merchant."""


class Algorithm(enum.StrEnum):
    """A signature algorithm. Every key has exactly one: a request can name it, never choose it."""

    RSA_SHA256 = "rsa-v1_5-sha256"
    RSA_PSS_SHA512 = "rsa-pss-sha512"
    ECDSA_P256_SHA256 = "ecdsa-p256-sha256"
    ED25519 = "ed25519"
    HMAC_SHA256 = "hmac-sha256"
    UNIONPAY_SHA256 = "unionpay-sha256"
    UNIONPAY_SM3 = "unionpay-sm3"
    TLS = "tls"
    """The key was proven in the TLS handshake; nothing is left to verify."""


class KeyKind(enum.StrEnum):
    """The name space of a key's or an identity's name; the names of two kinds never meet."""

    WECHAT = "wechat_v3"
    """`mchid/serial_no`."""
    ALIPAY = "alipay"
    """`app_id` (plain keys) or `app_id/app_cert_sn` (certificates)."""
    UNIONPAY = "unionpay"
    """`mer_id/certId` (a certificate's serial, decimal) for method 01, `mer_id/algorithm` for 11 and 12."""
    HMAC = "hmac"
    HTTP_SIGNATURE = "http_signature"
    """`keyid`."""
    JWT = "jwt"
    """`issuer name/subject`: who the subject of a verified token is."""
    JWT_ISSUER = "jwt_issuer"
    """The `iss` claim: whose keys may have signed a token."""
    MTLS = "mtls"
    """A SPIFFE ID, or `sha256:` and the certificate's fingerprint."""
    PROVIDER = "provider"
    """`channel/serial` or `channel`: a provider's key."""
    MCHID = "mchid"
    APP_ID = "app_id"
    MER_ID = "mer_id"


class KeyRef(NamedTuple):
    """What a request says its key is called, before anything is believed."""

    kind: KeyKind
    name: str


class Verifier(Protocol):
    """A parsed key with its one algorithm."""

    @property
    def algorithm(self) -> Algorithm: ...

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Whether `signature` is this key's over `signed`. Constant time where the key is a shared secret."""
        ...


@dataclass(frozen=True, slots=True)
class TokenRate:
    """A token bucket: `tokens` come back every `per_s` seconds, evenly; it holds `burst`. All whole numbers."""

    tokens: int
    per_s: int
    burst: int


LimitSize = tuple[TokenRate, ...] | int
"""Token buckets that must all have a token; or a ceiling: requests at once, payments a day, minor units a day."""


@dataclass(frozen=True, slots=True)
class AmountRange:
    """What one payment may be, integer minor units, both ends included."""

    min: int
    max: int


@dataclass(frozen=True, slots=True)
class Merchant:
    id: str
    rate_limits: Mapping[str, LimitSize]
    """Overrides by rate limit name."""
    tier: str | None = None
    """Which of a limit's tiers it has, where no override of its own says otherwise."""
    routes: frozenset[str] | None = None
    """Names of the routes it may call; None: every route that takes its credential."""
    operations: frozenset[str] | None = None
    app_ids: frozenset[str] | None = None
    """App ids that its requests may name; None: any that its credential proves or the provider will check."""
    amounts: Mapping[str, AmountRange] | None = None
    """By currency; another currency is refused. None: any amount."""
    products: frozenset[str] | None = None
    """None: any."""
    channels: frozenset[str] | None = None
    """That its contract lets its payments go through; None: any."""
    fees: Mapping[str, Mapping[str, FeeSchedule]] = field(default_factory=dict)
    """Its own, by channel and currency; elsewhere the channel's hold."""
    order_no_prefix: str = ""
    """Before its order numbers, at providers whose account several merchants share."""
    in_table: bool = False
    """No document has it, so that nobody knows whether its order numbers differ from others' at a provider."""
    sandbox: bool = False
    """A refused signature shows the string to sign."""


@dataclass(frozen=True, slots=True)
class CredentialKey:
    """One valid key. Several of one name may be valid at once; each is tried."""

    id: str
    """For the log: serial, key id, fingerprint."""
    verifier: Verifier
    merchant: Merchant | None
    """None: a provider's key."""
    proves: Mapping[str, str]
    """Identifiers that the holder has proven to own: `mchid`, `app_id`, `mer_id`, `seller_id`."""
    valid_from_s: int | None = None
    valid_until_s: int | None = None
    """Unix seconds, inclusive."""

    def valid_at(self, now_s: int) -> bool:
        return (self.valid_from_s is None or self.valid_from_s <= now_s) and (
            self.valid_until_s is None or now_s <= self.valid_until_s
        )
