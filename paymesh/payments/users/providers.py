"""Owns what a user provider is, compiled: where its token stands, whom to ask, how long an answer is believed.

Refuses I/O. `version` is a hash of everything a provider was made from: a cached answer serves that provider only.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from paymesh.payments.credentials.verifiers import RsaSha256
from paymesh.payments.jose.keys import JwkSet, JwsAlgorithm
from paymesh.payments.secrets import Secret
from paymesh.payments.signers import Signer


@dataclass(frozen=True, slots=True)
class TokenFrom:
    """Where the token stands: exactly one is set. Header `authorization` means `Bearer` (RFC 6750 section 2.1)."""

    header: str | None = None
    query: str | None = None


class WechatEndpoint(enum.StrEnum):
    """Which login gave the code."""

    OAUTH2 = "oauth2"
    """Web pages and apps: /sns/oauth2/access_token."""
    MINI_PROGRAM = "mini_program"
    """/sns/jscode2session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtProvider:
    """A token verified here, with its issuer's keys."""

    name: str
    token_from: TokenFrom
    timeout_s: float
    issuer: str
    audiences: tuple[str, ...]
    algorithms: frozenset[JwsAlgorithm]
    leeway_s: int
    keys: JwkSet | str = field(repr=False)
    """A set read with the policy, or the URL of one."""
    required_scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteProvider:
    """A provider that is asked about each token it has not seen."""

    name: str
    token_from: TokenFrom
    timeout_s: float
    """Of everything: waiting for a turn, connecting, the answer."""
    cache_s: int
    """How long an answer is believed at most."""
    max_concurrent_requests: int
    url: str
    version: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntrospectionProvider(RemoteProvider):
    """RFC 7662."""

    client_id: str
    client_secret: Secret
    issuer: str | None = None
    audiences: tuple[str, ...] = ()
    """Empty: whatever the authorization server tells this client is for it."""
    required_scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class UserinfoProvider(RemoteProvider):
    """OpenID Connect Core section 5.3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlipayOauthProvider(RemoteProvider):
    """`alipay.system.oauth.token`. `url` is that of gateway.do."""

    app_id: str
    signer: Signer = field(repr=False)
    alipay_key: RsaSha256 = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WechatOauthProvider(RemoteProvider):
    """`url` is the scheme and host, without a path."""

    app_id: str
    app_secret: Secret
    endpoint: WechatEndpoint


UserProvider = JwtProvider | IntrospectionProvider | UserinfoProvider | AlipayOauthProvider | WechatOauthProvider
