"""Owns how credentials are written: merchants' keys by scheme, providers' keys of notifications, the gateway's own.

Public keys and certificates stand inline or in a file; secrets and private keys are only ever referred to.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints, model_validator

from paymesh.payments.policy.callers import Algorithm
from paymesh.payments.policy.compiled import Protocol
from paymesh.payments.policy.values import (
    Document,
    FileReference,
    Identifier,
    Milliseconds,
    Name,
    Pattern,
    SecretReference,
)

PublicKeySource = Annotated[str, StringConstraints(min_length=1)] | FileReference


def _moment(value: object) -> object:
    # YAML reads an unquoted date-time itself, and pydantic would take a number for one.
    if not isinstance(value, str | datetime.datetime):
        raise ValueError("a moment is a date and time with its offset, such as 2026-12-31T23:59:59+08:00")  # noqa: TRY004
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class DatedDocument(Document):
    """A key that may have dates. Outside them it does not verify."""

    valid_from: Moment | None = Field(None, description="RFC 3339; a certificate's own dates hold as well.")
    valid_until: Moment | None = Field(None, description="RFC 3339, inclusive.")


class WechatCredentialDocument(DatedDocument):
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


class AlipayCredentialDocument(DatedDocument):
    """Alipay application key, for `alipay_v2` and `alipay_v3` routes alike."""

    scheme: Literal["alipay"]
    app_id: Identifier
    public_key: PublicKeySource = Field(
        description="The application's RSA public key (PEM, or bare base64 as Alipay's tools write it), or its "
        "certificate: then requests must name its `app_cert_sn`."
    )
    app_cert_sn: Identifier | None = Field(None, description="Default: computed from the certificate.")
    seller_id: Identifier | None = Field(
        None, description="The seller (PID, 2088...) whose notifications are accepted for this application."
    )


class UnionpayCredentialDocument(DatedDocument):
    """UnionPay 5.1.0: a certificate (method 01) or a secure key (11, and 12 where OpenSSL has SM3)."""

    scheme: Literal["unionpay"]
    mer_id: Identifier
    certificate: PublicKeySource | None = Field(None, description="Certificate, or a public key with cert_id.")
    cert_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,50}$")] | None = Field(
        None, description="`certId`: the certificate's serial in decimal; read from the certificate if absent."
    )
    secure_key: SecretReference | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> UnionpayCredentialDocument:
        if (self.certificate is None) == (self.secure_key is None):
            raise ValueError("exactly one of certificate and secure_key is required")
        return self


class HmacCredentialDocument(DatedDocument):
    """paymesh's own HMAC-SHA256 scheme for merchants without a provider protocol."""

    scheme: Literal["hmac"]
    key_id: Identifier = Field(description="Sent by the merchant as `Paymesh-Key`.")
    secret: SecretReference = Field(description="The shared secret, at least 16 bytes.")


class HttpSignatureCredentialDocument(DatedDocument):
    """RFC 9421 HTTP message signatures."""

    scheme: Literal["http_signature"]
    key_id: Identifier = Field(description="The `keyid` parameter.")
    algorithm: Literal[
        Algorithm.RSA_SHA256,
        Algorithm.RSA_PSS_SHA512,
        Algorithm.ECDSA_P256_SHA256,
        Algorithm.ED25519,
        Algorithm.HMAC_SHA256,
    ]
    public_key: PublicKeySource | None = None
    secret: SecretReference | None = Field(None, description="For hmac-sha256, at least 32 bytes.")

    @model_validator(mode="after")
    def _key_of_its_kind(self) -> HttpSignatureCredentialDocument:
        symmetric = self.algorithm is Algorithm.HMAC_SHA256
        if (self.secret is None) == symmetric or (self.public_key is None) != symmetric:
            raise ValueError("hmac-sha256 has a secret, every other algorithm a public_key")
        return self


class JwtCredentialDocument(DatedDocument):
    """The subject of an issuer's tokens (RFC 7519)."""

    scheme: Literal["jwt"]
    issuer: Name = Field(description="Name of one of `jwt_issuers`.")
    subject: Annotated[str, StringConstraints(min_length=1, max_length=255)] = Field(description="The `sub` claim.")


class MtlsCredentialDocument(DatedDocument):
    """A client certificate that Envoy verified: by its SPIFFE ID, or pinned by fingerprint."""

    scheme: Literal["mtls"]
    spiffe_id: Annotated[str, StringConstraints(pattern=r"^spiffe://[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)+$")] | None = None
    certificate_sha256: Sha256Hex | None = Field(
        None, description="SHA-256 of the certificate's DER, lower-case hex without colons."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> MtlsCredentialDocument:
        if (self.spiffe_id is None) == (self.certificate_sha256 is None):
            raise ValueError("exactly one of spiffe_id and certificate_sha256 is required")
        return self


CredentialDocument = Annotated[
    WechatCredentialDocument
    | AlipayCredentialDocument
    | UnionpayCredentialDocument
    | HmacCredentialDocument
    | HttpSignatureCredentialDocument
    | JwtCredentialDocument
    | MtlsCredentialDocument,
    Field(discriminator="scheme"),
]


class KeySetUrlDocument(Document):
    url: Annotated[str, StringConstraints(min_length=1, max_length=2048)] = Field(
        description="https:// (http:// only to this machine). Kept as long as its Cache-Control says, renewed before, "
        "and asked at most once in ten seconds because of an unknown `kid`."
    )


class JwtIssuerDocument(Document):
    """Whose JSON Web Tokens are believed. Required claims: exp, iat, iss, aud, sub (RFC 7519, 8725)."""

    name: Name
    issuer: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(description="The exact `iss`.")
    audiences: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        min_length=1, description="`aud` must name one of them."
    )
    algorithms: tuple[Literal["RS256", "ES256", "EdDSA", "HS256"], ...] = Field(
        ("RS256", "ES256", "EdDSA"), min_length=1, description="HS256 needs `secret`, the others `jwks`."
    )
    jwks: FileReference | KeySetUrlDocument | None = Field(None, description="The issuer's public keys (RFC 7517).")
    secret: SecretReference | None = Field(None, description="For HS256, at least 32 bytes.")
    leeway: Milliseconds = Field(30_000, description="By how much the clocks may differ, at most 60s.")

    @model_validator(mode="after")
    def _key_of_its_kind(self) -> JwtIssuerDocument:
        if (self.jwks is None) == (self.secret is None):
            raise ValueError("exactly one of jwks and secret is required")
        if self.algorithms != ("HS256",) and (self.secret is not None or "HS256" in self.algorithms):
            raise ValueError("a secret signs with HS256 alone, and a key set never does")
        if self.secret is None and "HS256" in self.algorithms:
            raise ValueError("HS256 needs a secret: a key set is public")
        if self.leeway > 60_000:
            raise ValueError("a leeway is at most 60s")
        return self


class PlatformKeyDocument(DatedDocument):
    serial_no: Identifier = Field(description="`Wechatpay-Serial`: certificate serial or PUB_KEY_ID_...")
    public_key: PublicKeySource


class WechatNotificationDocument(Document):
    """What is needed to read WeChat Pay's signed and encrypted notifications."""

    scheme: Literal["wechat_v3_notification"]
    platform_keys: tuple[PlatformKeyDocument, ...] = Field(min_length=1)
    apiv3_key: SecretReference = Field(description="The 32-byte APIv3 key.")


class AlipayPlatformKeyDocument(DatedDocument):
    public_key: PublicKeySource = Field(description="Alipay's public key for this application.")


class AlipayNotificationDocument(Document):
    """Alipay's asynchronous notifications. Their merchant is the one with the notified `app_id`."""

    scheme: Literal["alipay_notification"]
    platform_keys: tuple[AlipayPlatformKeyDocument, ...] = Field(min_length=1, max_length=8)


class UnionpayNotificationDocument(Document):
    """UnionPay's notifications, whose certificate comes with them. Their merchant has the notified `merId`."""

    scheme: Literal["unionpay_notification"]
    authorities: PublicKeySource = Field(description="Root and intermediate certificates, PEM, one after the other.")
    common_name: Pattern = Field(
        r"[^@]+@[^@]+@中国银联股份有限公司(@[^@]*)?",
        description="Regular expression for the certificate's whole CN. UnionPay's test system has 00040000:SIGN as "
        "the third part.",
    )


NotificationDocument = Annotated[
    WechatNotificationDocument | AlipayNotificationDocument | UnionpayNotificationDocument,
    Field(discriminator="scheme"),
]


class ResponseSignerDocument(Document):
    """The gateway's own key, for its refusals and for answers that it signs again (`sanitize.sign_again`), where the
    merchants' SDKs verify answers. An SDK trusts one key for all that it hears: sign with the key that signs the
    answers, or give the merchants this one and sign every answer of theirs again with it."""

    protocol: Literal[Protocol.ALIPAY_V2, Protocol.ALIPAY_V3, Protocol.WECHAT_V3, Protocol.UNIONPAY]
    private_key: SecretReference = Field(
        description="RSA private key, PEM without password. Alipay's two APIs may share one."
    )
    certificate: PublicKeySource | None = Field(
        None, description="Sent with UnionPay answers; its serial names the key. Required there."
    )
    serial: Identifier | None = Field(
        None,
        description="What the key is called; read from the certificate if absent. WeChat Pay requires one of the two: "
        "certificate serial (hex) or PUB_KEY_ID_...",
    )
