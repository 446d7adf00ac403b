"""User providers as written: what is taken, what is refused, and that nothing secret is shown."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import ValidationError

from paymesh.payments.policy.compile_users import check_route_users, compile_user_providers, key_set_urls
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.references import References
from paymesh.payments.policy.yaml_source import SourceTree
from paymesh.payments.users.providers import JwtProvider, RemoteProvider, TokenFrom
from tests.unit.payments.users.conftest import ADAPTER
from tests.unit.payments.users.idp import private_pem, public_pem

OURS = rsa.generate_private_key(65537, 2048)
ALIPAY = rsa.generate_private_key(65537, 2048)
ENVIRON = {"S": "s" * 32, "SHORT": "s" * 31, "BINARY": "é" * 32, "OURS": private_pem(OURS), "HOST": "id.example"}

JWT: dict[str, object] = {
    "kind": "jwt",
    "name": "sso",
    "issuer": "https://id.example",
    "audiences": ["paymesh"],
    "jwks": {"url": "https://id.example/jwks"},
}
INTROSPECTION: dict[str, object] = {
    "kind": "introspection",
    "name": "as",
    "url": "https://${HOST}/introspect",
    "client_id": "c",
    "client_secret": {"env": "S"},
}
USERINFO: dict[str, object] = {"kind": "userinfo", "name": "oidc", "url": "https://id.example/userinfo"}
ALIPAY_OAUTH: dict[str, object] = {
    "kind": "alipay_oauth",
    "name": "alipay",
    "app_id": "2014",
    "private_key": {"env": "OURS"},
    "alipay_public_key": public_pem(ALIPAY),
}
WECHAT: dict[str, object] = {"kind": "wechat_oauth", "name": "wechat", "app_id": "wx1", "app_secret": {"env": "S"}}
ALL = [JWT, INTROSPECTION, USERINFO, ALIPAY_OAUTH, WECHAT]


def read(*documents: dict[str, object]) -> list[object]:
    return [ADAPTER.validate_python(document, context={"environ": ENVIRON}) for document in documents]


def problems(*documents: dict[str, object]) -> list[str]:
    findings = Findings(SourceTree(), References(ENVIRON))
    compile_user_providers(read(*documents), findings)
    return [f"{problem.path}: {problem.message}" for problem in findings.problems]


def test_every_kind_with_its_defaults() -> None:
    findings = Findings(SourceTree(), References(ENVIRON))
    found = compile_user_providers(read(*ALL), findings)
    assert findings.problems == []
    assert {name: provider.token_from for name, provider in found.items()} == {
        "sso": TokenFrom(header="authorization"),
        "as": TokenFrom(header="authorization"),
        "oidc": TokenFrom(header="authorization"),
        "alipay": TokenFrom(query="auth_code"),
        "wechat": TokenFrom(query="code"),
    }
    remote = [provider for provider in found.values() if isinstance(provider, RemoteProvider)]
    assert {(one.timeout_s, one.cache_s, one.max_concurrent_requests) for one in remote} == {(0.4, 300, 32)}
    assert {one.url for one in remote} == {
        "https://id.example/introspect",
        "https://id.example/userinfo",
        "https://openapi.alipay.com/gateway.do",
        "https://api.weixin.qq.com",
    }
    assert key_set_urls(found) == {"https://id.example/jwks"}
    assert "s" * 32 not in repr(found)


@pytest.mark.parametrize("document", ALL, ids=lambda document: document["kind"])
@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"name": "a/b"},
        {"name": None},
        {"timeout": "6m"},
        {"timeout": 5},
        {"kind": "saml"},
        {"token_from": {}},
        {"token_from": {"header": "a", "query": "b"}},
        {"token_from": {"header": "Authorization"}},
        {"token_from": {"header": "x-pay-token"}},
        {"token_from": {"query": ""}},
    ],
)
def test_what_no_document_may_say(document: dict[str, object], changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        read({**document, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"jwks": None},
        {"secret": {"env": "S"}},
        {"jwks": None, "secret": {"env": "S"}},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"algorithms": ["RS256", "HS256"]},
        {"algorithms": []},
        {"audiences": []},
        {"leeway": "61s"},
        {"required_scopes": ["a b"]},
    ],
)
def test_what_no_jwt_may_say(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        read({**JWT, **changes})


@pytest.mark.parametrize(
    "document",
    [{**WECHAT, "cache": "301s"}, {**WECHAT, "max_concurrent_requests": 0}, {**WECHAT, "endpoint": "app"}],
)
def test_what_no_asked_provider_may_say(document: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        read(document)


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        ({**JWT, "jwks": {"url": "http://id.example/jwks"}}, "jwks.url", "is not https://"),
        ({**JWT, "jwks": {"file": "missing.json"}}, "jwks", "cannot be read"),
        ({**JWT, "jwks": None, "algorithms": ["HS256"], "secret": {"env": "SHORT"}}, "secret", "at least 32"),
        ({**INTROSPECTION, "url": "http://id.example/"}, "url", "is not https://"),
        ({**INTROSPECTION, "client_secret": {"env": "UNSET"}}, "client_secret", "is not set"),
        ({**INTROSPECTION, "client_secret": {"env": "BINARY"}}, "client_secret", "printable ASCII"),
        ({**INTROSPECTION, "cache": "999ms"}, "cache", "at least 1s"),
        ({**USERINFO, "url": "https://user:pw@id.example/"}, "url", "has a user name"),
        ({**ALIPAY_OAUTH, "private_key": {"env": "S"}}, "private_key", "not a PEM private key"),
        ({**ALIPAY_OAUTH, "alipay_public_key": public_pem(OURS)}, "alipay_public_key", "the application's own"),
        ({**WECHAT, "url": "https://api.weixin.qq.com/sns"}, "url", "has a path"),
        ({**WECHAT, "url": "https://api.weixin.qq.com?a=b"}, "url", "has a path or a query"),
        ({**WECHAT, "app_secret": {"env": "UNSET"}}, "app_secret", "is not set"),
    ],
)
def test_problems_say_where_and_what(document: dict[str, object], path: str, message: str) -> None:
    (found,) = problems(document)
    assert found.startswith(f"user_providers[0].{path}: ")
    assert message in found


def test_a_key_set_in_a_file(tmp_path: Path) -> None:
    public = jwt.get_algorithm_by_name("ES256").to_jwk(
        ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True
    )
    good = tmp_path / "jwks.json"
    good.write_text(json.dumps({"keys": [{**public, "key_ops": ["verify"]}]}))
    findings = Findings(SourceTree(), References(ENVIRON))
    found = compile_user_providers(read({**JWT, "jwks": {"file": str(good)}}), findings)["sso"]
    assert isinstance(found, JwtProvider)
    assert not isinstance(found.keys, str)
    assert key_set_urls({"sso": found}) == frozenset()
    assert "no key has one of them" in problems({**JWT, "jwks": {"file": str(good)}, "algorithms": ["RS256"]})[0]
    good.write_text('{"keys": [{"kty": "oct", "k": "AAAA"}]}')
    assert "private key or a secret" in problems({**JWT, "jwks": {"file": str(good)}})[0]


def test_two_of_one_name() -> None:
    assert problems(USERINFO, USERINFO) == ["user_providers[1].name: oidc is defined twice"]


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        (["sso", "oidc", "wechat"], []),
        (["sso", "as"], []),
        (["nobody"], ["unknown user provider nobody"]),
        (["sso", "sso"], ["sso is named twice"]),
        (["as", "oidc"], ["oidc reads its token where as does"]),
        (["alipay", "wechat"], []),
    ],
)
def test_what_a_route_may_name_together(users: list[str], expected: list[str]) -> None:
    findings = Findings(SourceTree(), References(ENVIRON))
    documents = read(*ALL)
    providers = compile_user_providers(documents, findings)
    check_route_users(users, documents, providers, ("routes", 0, "users"), findings)
    assert len(findings.problems) == len(expected)
    for problem, message in zip(findings.problems, expected, strict=True):
        assert message in problem.message
        assert problem.path.startswith("routes[0].users[")
