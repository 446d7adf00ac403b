"""Owns how user providers are written: whom the gateway asks who a person is. Secrets are only ever referred to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt, StringConstraints, model_validator

from paymesh.payments.internal_names import INTERNAL_HEADER_PREFIX
from paymesh.payments.policy.credential_documents import JwtIssuerDocument, PublicKeySource
from paymesh.payments.policy.values import Document, Identifier, Interpolated, Milliseconds, Name, SecretReference
from paymesh.payments.users.providers import WechatEndpoint

Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,128}$")]
"""RFC 6749 section 3.3."""
Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class TokenFromDocument(Document):
    """Where the user's token stands: in a header or in a query parameter."""

    header: Annotated[str, StringConstraints(pattern=r"^[a-z0-9!#$%&'*+.^_`|~-]+$")] | None = Field(
        None, description="Lower case. `authorization` means `Bearer`; other kinds of it count as no token."
    )
    query: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="Name of a query parameter. Access logs of others may show it."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> TokenFromDocument:
        if (self.header is None) == (self.query is None):
            raise ValueError("a token is found by exactly one of header and query")
        if self.header is not None and self.header.startswith(INTERNAL_HEADER_PREFIX):
            raise ValueError("Envoy removes every x-pay-* header that a caller sends")
        return self


BEARER = TokenFromDocument.model_construct(header="authorization", query=None)
CODE = TokenFromDocument.model_construct(header=None, query="code")
AUTH_CODE = TokenFromDocument.model_construct(header=None, query="auth_code")
"""What Alipay calls it when it sends the person back (opendocs.alipay.com/open/02xtla)."""


class JwtUserDocument(JwtIssuerDocument):
    """A JSON Web Token that is verified here. A token is believed until it expires; its key's end ends it at once."""

    kind: Literal["jwt"]
    token_from: TokenFromDocument = Field(BEARER, description="Default: `{header: authorization}`.")
    required_scopes: tuple[Scope, ...] = Field((), description="All of them must be in `scope` (or `scp`).")
    timeout: Milliseconds = Field(400, description="For the issuer's keys, where they have to be waited for.")

    @model_validator(mode="after")
    def _no_secret_in_a_set(self) -> JwtUserDocument:
        if self.jwks is not None and "HS256" in self.algorithms:
            raise ValueError("HS256 needs a secret: a key set holds public keys only")
        return self


class AskedDocument(Document):
    """What every provider has that is asked over the network."""

    name: Name = Field(description="Comes before the id in `x-pay-user`.")
    timeout: Milliseconds = Field(400, description="Of the whole question, waiting for a turn included.")
    cache: Milliseconds = Field(
        300_000, description="How long an answer is believed at most; a token withdrawn meanwhile still works."
    )
    max_concurrent_requests: StrictInt = Field(32, ge=1, le=1000, description="More wait for their turn.")


class IntrospectionUserDocument(AskedDocument):
    """An opaque token; the authorization server is asked about it (RFC 7662)."""

    kind: Literal["introspection"]
    url: Interpolated = Field(description="https:// (http:// only to this machine).")
    client_id: Text = Field(description="The gateway's own, sent with the secret as HTTP Basic.")
    client_secret: SecretReference
    issuer: Text | None = Field(None, description="What `iss` must be; absent: not looked at.")
    audiences: tuple[Text, ...] = Field((), description="`aud` must name one of them; empty: not looked at.")
    required_scopes: tuple[Scope, ...] = ()
    token_from: TokenFromDocument = Field(BEARER, description="Default: `{header: authorization}`.")


class UserinfoUserDocument(AskedDocument):
    """An access token; OpenID Connect's userinfo endpoint is asked whose it is. The answer does not say for whom the
    token was made: one that the person gave to any other client of the same provider is accepted as well. Prefer
    introspection with audiences, or jwt, where the provider has them."""

    kind: Literal["userinfo"]
    url: Interpolated = Field(description="https:// (http:// only to this machine).")
    token_from: TokenFromDocument = Field(BEARER, description="Default: `{header: authorization}`.")


class AlipayOauthUserDocument(AskedDocument):
    """An Alipay authorization code, exchanged once by `alipay.system.oauth.token`. While `cache` lasts, the same code
    means the same person on the same worker."""

    kind: Literal["alipay_oauth"]
    url: Interpolated = Field("https://openapi.alipay.com/gateway.do", description="Of gateway.do.")
    app_id: Identifier
    private_key: SecretReference = Field(description="The application's RSA private key, PEM without password.")
    alipay_public_key: PublicKeySource = Field(description="Alipay's key for this application; it signs the answer.")
    token_from: TokenFromDocument = Field(AUTH_CODE, description="Default: `{query: auth_code}`.")


class WechatOauthUserDocument(AskedDocument):
    """A WeChat login code, exchanged once for an openid. While `cache` lasts, the same code means the same person on
    the same worker."""

    kind: Literal["wechat_oauth"]
    url: Interpolated = Field("https://api.weixin.qq.com", description="Scheme and host, without a path.")
    endpoint: WechatEndpoint = Field(WechatEndpoint.OAUTH2, description="Which login the code is from.")
    app_id: Identifier
    app_secret: SecretReference
    token_from: TokenFromDocument = Field(CODE, description="Default: `{query: code}`.")


UserProviderDocument = Annotated[
    JwtUserDocument
    | IntrospectionUserDocument
    | UserinfoUserDocument
    | AlipayOauthUserDocument
    | WechatOauthUserDocument,
    Field(discriminator="kind"),
]
