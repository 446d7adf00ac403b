"""Owns how a policy says that a channel speaks a provider's protocol, and as whom (docs/adding-a-channel.md)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from paymesh.payments.policy.credential_documents import DatedDocument, PublicKeySource
from paymesh.payments.policy.values import Document, Identifier, Interpolated, Pattern, SecretReference

AdapterName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*(?::[A-Za-z_][A-Za-z0-9_.]*)?$")]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?$")]


class ProviderKeyDocument(DatedDocument):
    """One of the keys that the provider signs its answers with."""

    serial: Identifier | None = Field(
        None,
        description="By which answers name it (WeChat Pay: certificate serial or PUB_KEY_ID_...); absent: unnamed.",
    )
    public_key: PublicKeySource = Field(description="RSA public key or certificate: PEM text or {file: ...}.")


class CertificatesDocument(Document):
    """Where answers carry the certificate of their key (UnionPay): who may have issued it, and to whom."""

    authorities: PublicKeySource = Field(description="PEM certificates: text or {file: ...}.")
    common_name: Pattern = Field(description="What the certificate's common name must match, as a whole.")


class AdapterDocument(Document):
    """Generic orders leave as the provider's own requests, signed with our key there; its answers are verified."""

    name: AdapterName = Field(
        description="alipay_v2, wechat_v3, unionpay; or one of your own, `package.module:OBJECT`."
    )
    account: Identifier = Field(description="`app_id` (Alipay), `mchid` (WeChat Pay), `merId` (UnionPay).")
    app_id: Identifier | None = Field(None, description="WeChat Pay's `appid` beside the account.")
    private_key: SecretReference | None = Field(None, description="Our RSA private key, PEM without password.")
    certificate: PublicKeySource | None = Field(None, description="Ours, if the provider knows the key by it.")
    serial: Identifier | None = Field(
        None, description="What the provider calls our key; read from the certificate if absent."
    )
    secret: SecretReference | None = Field(None, description="Where both sides sign with one secret.")
    root_serial: Identifier | None = Field(None, description="`alipay_root_cert_sn`, in Alipay's certificate mode.")
    provider_keys: tuple[ProviderKeyDocument, ...] = ()
    provider_certificates: CertificatesDocument | None = None
    notify_url: Interpolated | None = Field(
        None, description="Where the provider shall notify: the gateway's own notify route. Wins over the order's."
    )
    host: Host | None = Field(None, description="The provider's host, as requests name it. Absent: unchanged.")

    @model_validator(mode="after")
    def _one_key(self) -> AdapterDocument:
        if self.private_key is None and (self.certificate is not None or self.serial is not None):
            raise ValueError("certificate and serial belong to a private_key")
        return self
