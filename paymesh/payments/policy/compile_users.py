"""Owns turning written user providers into compiled ones, and which of them a route may name together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from paymesh.payments.credentials.verifiers import RsaSha256
from paymesh.payments.jose.fetch import url_problem
from paymesh.payments.jose.keys import JWS_ALGORITHMS, JwkSet
from paymesh.payments.policy import user_documents as d
from paymesh.payments.policy.compile_credentials import CredentialCompiler
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.policy.values import SecretReference
from paymesh.payments.secrets import Secret
from paymesh.payments.signers import Signer
from paymesh.payments.users.providers import (
    AlipayOauthProvider,
    IntrospectionProvider,
    JwtProvider,
    RemoteProvider,
    TokenFrom,
    UserinfoProvider,
    UserProvider,
    WechatOauthProvider,
)

SECTION = "user_providers"


def compile_user_providers(documents: Sequence[Any], findings: Findings) -> dict[str, UserProvider]:
    """The providers by name. One with a problem is left out; the policy is refused then anyway."""
    found: dict[str, UserProvider] = {}
    seen: set[str] = set()
    for index, document in enumerate(documents):
        path: DocumentPath = (SECTION, index)
        if document.name in seen:
            findings.problem((*path, "name"), f"{document.name} is defined twice")
        seen.add(document.name)
        provider = _COMPILERS[type(document)](document, path, findings)
        if provider is not None:
            found[document.name] = provider
    return found


def check_route_users(
    names: Sequence[str],
    documents: Sequence[Any],
    providers: Mapping[str, UserProvider],
    path: DocumentPath,
    findings: Findings,
) -> None:
    """What a route's `users` may not be. `path` is that of the list."""
    defined = {document.name for document in documents}
    asked: dict[TokenFrom, str] = {}
    for number, name in enumerate(names):
        if name not in defined:
            findings.unknown((*path, number), "user provider", name, dict.fromkeys(defined, None))
        elif name in names[:number]:
            findings.problem((*path, number), f"{name} is named twice")
        provider = providers.get(name)
        if not isinstance(provider, RemoteProvider):
            continue
        other = asked.setdefault(provider.token_from, name)
        if other != name:
            # One provider's token would be shown to the other.
            findings.problem((*path, number), f"{name} reads its token where {other} does, and both would be sent it")


def key_set_urls(providers: Mapping[str, UserProvider]) -> frozenset[str]:
    """The key sets to fetch beforehand, and to keep."""
    return frozenset(
        provider.keys
        for provider in providers.values()
        if isinstance(provider, JwtProvider) and isinstance(provider.keys, str)
    )


# -- the kinds ---------------------------------------------------------------------------------------------------


def _jwt(document: d.JwtUserDocument, path: DocumentPath, findings: Findings) -> JwtProvider | None:
    issuer = CredentialCompiler(findings, {}).issuer(document, path)
    if issuer is None:
        return None
    algorithms = frozenset(name for name, algorithm in JWS_ALGORITHMS.items() if algorithm in issuer.algorithms)
    if isinstance(issuer.keys, JwkSet) and not any(key.algorithm in algorithms for key in issuer.keys.keys):
        findings.problem((*path, "algorithms"), "no key has one of them")
    return JwtProvider(
        name=document.name,
        token_from=_token_from(document.token_from),
        timeout_s=document.timeout / 1000,
        issuer=issuer.issuer,
        audiences=issuer.audiences,
        algorithms=algorithms,
        leeway_s=issuer.leeway_s,
        keys=issuer.keys,
        required_scopes=frozenset(document.required_scopes),
    )


def _introspection(
    document: d.IntrospectionUserDocument, path: DocumentPath, findings: Findings
) -> IntrospectionProvider | None:
    asked = _check_asked(document, document.url, path, findings)
    secret = _text_secret((*path, "client_secret"), document.client_secret, findings)
    if secret is None or not asked:
        return None
    return IntrospectionProvider(
        **_common(document, document.url, document.token_from, secret.reveal()),
        client_id=document.client_id,
        client_secret=secret,
        issuer=document.issuer,
        audiences=document.audiences,
        required_scopes=frozenset(document.required_scopes),
    )


def _userinfo(document: d.UserinfoUserDocument, path: DocumentPath, findings: Findings) -> UserinfoProvider | None:
    if not _check_asked(document, document.url, path, findings):
        return None
    return UserinfoProvider(**_common(document, document.url, document.token_from))


def _alipay(document: d.AlipayOauthUserDocument, path: DocumentPath, findings: Findings) -> AlipayOauthProvider | None:
    asked = _check_asked(document, document.url, path, findings)
    references = findings.references
    key = findings.resolve((*path, "private_key"), references.rsa_private_key, document.private_key)
    public = findings.resolve((*path, "alipay_public_key"), references.rsa_key, document.alipay_public_key)
    if key is None or public is None or not asked:
        return None
    if key.public_key() == public.rsa:
        findings.problem((*path, "alipay_public_key"), "is the application's own public key, not Alipay's")
    parts = [
        one.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for one in (key.public_key(), public.rsa)
    ]
    return AlipayOauthProvider(
        **_common(document, document.url, document.token_from, *parts),
        app_id=document.app_id,
        signer=Signer(key, serial=""),
        alipay_key=RsaSha256(public.rsa),
    )


def _wechat(document: d.WechatOauthUserDocument, path: DocumentPath, findings: Findings) -> WechatOauthProvider | None:
    asked = _check_asked(document, document.url, path, findings)
    if asked and (urlsplit(document.url).path not in ("", "/") or "?" in document.url):
        findings.problem((*path, "url"), "has a path or a query; scheme and host are enough")
    secret = _text_secret((*path, "app_secret"), document.app_secret, findings)
    if secret is None or not asked:
        return None
    return WechatOauthProvider(
        **_common(document, document.url, document.token_from, secret.reveal()),
        app_id=document.app_id,
        app_secret=secret,
        endpoint=document.endpoint,
    )


_COMPILERS: Mapping[type, Callable[[Any, DocumentPath, Findings], UserProvider | None]] = {
    d.JwtUserDocument: _jwt,
    d.IntrospectionUserDocument: _introspection,
    d.UserinfoUserDocument: _userinfo,
    d.AlipayOauthUserDocument: _alipay,
    d.WechatOauthUserDocument: _wechat,
}


# -- what they have in common --------------------------------------------------------------------------------------


def _common(document: d.AskedDocument, url: str, token_from: d.TokenFromDocument, *parts: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(document.model_dump_json().encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return {
        "name": document.name,
        "token_from": _token_from(token_from),
        "timeout_s": document.timeout / 1000,
        "cache_s": document.cache // 1000,
        "max_concurrent_requests": document.max_concurrent_requests,
        "url": url,
        "version": digest.hexdigest(),
    }


def _check_asked(document: d.AskedDocument, url: str, path: DocumentPath, findings: Findings) -> bool:
    problem = url_problem(url)
    if problem is not None:
        findings.problem((*path, "url"), problem)
    if document.cache < 1000:
        findings.problem((*path, "cache"), "is at least 1s: a code is taken once, and a request may come twice")
    return problem is None


def _text_secret(path: DocumentPath, reference: SecretReference, findings: Findings) -> Secret | None:
    """A secret that is sent as text."""
    secret = findings.secret(path, reference)
    if secret is None:
        return None
    text = secret.reveal()
    if not text.isascii() or not text.decode("ascii").isprintable():
        findings.problem(path, "the secret is not printable ASCII")
        return None
    return secret


def _token_from(document: d.TokenFromDocument) -> TokenFrom:
    return TokenFrom(header=document.header, query=document.query)
