"""What each kind of provider is asked, and what is made of every answer it may give."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from urllib.parse import quote_plus

import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from paymesh.payments.denial import Denial, Reason, Unavailable
from paymesh.payments.request import Request
from paymesh.payments.users.identify import UserIdentifier
from paymesh.payments.users.providers import UserProvider
from paymesh.payments.users.user import User
from tests.unit.payments.users.conftest import Compile
from tests.unit.payments.users.idp import IdentityProvider, alipay_answer, private_pem, public_pem

NOW = int(time.time())
SECRET = "a secret: 100% & more"
ISSUER = rsa.generate_private_key(65537, 2048)
OURS = rsa.generate_private_key(65537, 2048)
ALIPAY = rsa.generate_private_key(65537, 2048)
WECHAT_SECRET = "wechat-app-secret"


def request(*, bearer: str | None = None, target: str = "/pay", **headers: str) -> Request:
    if bearer is not None:
        headers["authorization"] = f"Bearer {bearer}"
    return Request("POST", target, {name: (value,) for name, value in headers.items()}, b"", "r-1")


async def denied(identifier: UserIdentifier, provider: UserProvider, asked: Request) -> Denial:
    found = await identifier.identify(asked, provider, NOW)
    assert isinstance(found, Denial), found
    return found


async def named(identifier: UserIdentifier, provider: UserProvider, asked: Request) -> User:
    found = await identifier.identify(asked, provider, NOW)
    assert isinstance(found, User), found
    return found


class TestJwt:
    @pytest.fixture
    def provider(self, compiled: Compile, idp: IdentityProvider) -> UserProvider:
        public = jwt.get_algorithm_by_name("RS256").to_jwk(ISSUER.public_key(), as_dict=True)
        idp.answer = {"keys": [{**public, "kid": "k1"}]}
        return compiled(
            kind="jwt",
            name="sso",
            issuer="https://id.example",
            audiences=["paymesh"],
            jwks={"url": f"{idp.url}/jwks"},
            required_scopes=["pay"],
        )

    @staticmethod
    def token(key: object = ISSUER, headers: Mapping[str, str] | None = None, **changes: object) -> str:
        claims = {
            "iss": "https://id.example",
            "aud": "paymesh",
            "sub": "用户 7",
            "iat": NOW,
            "exp": NOW + 300,
            "scope": "pay read",
            **changes,
        }
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": "k1", **(headers or {})})  # type: ignore[arg-type]

    async def test_its_subject(self, identifier: UserIdentifier, provider: UserProvider) -> None:
        user = await named(identifier, provider, request(bearer=self.token()))
        assert (user.id, user.provider, user.scopes) == ("用户 7", "sso", {"pay", "read"})
        assert user.header_value == "sso:%E7%94%A8%E6%88%B7%207"
        assert "用户" not in repr(user)

    @pytest.mark.parametrize(
        "changes",
        [{"exp": NOW - 31}, {"iat": NOW + 31}, {"nbf": NOW + 31}, {"iss": "x"}, {"aud": "x"}, {"sub": ""}, {"cnf": {}}],
    )
    async def test_claims_that_do_not_hold_fetch_no_keys(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider, changes: dict[str, object]
    ) -> None:
        denial = await denied(identifier, provider, request(bearer=self.token(**changes)))
        assert denial.reason is Reason.USER_INVALID
        assert idp.requests == []

    async def test_another_signer(self, identifier: UserIdentifier, provider: UserProvider) -> None:
        denial = await denied(identifier, provider, request(bearer=self.token(OURS)))
        assert (denial.reason, denial.detail) == (Reason.USER_INVALID, "signature mismatch")

    async def test_an_algorithm_that_is_not_the_issuers(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
    ) -> None:
        token = jwt.encode({"sub": "a"}, "s" * 32, algorithm="HS256")
        assert (await denied(identifier, provider, request(bearer=token))).reason is Reason.USER_INVALID
        assert idp.requests == []

    @pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "secevent+jwt", "JWE"])
    async def test_a_token_made_for_something_else(
        self, identifier: UserIdentifier, provider: UserProvider, kind: str
    ) -> None:
        denial = await denied(identifier, provider, request(bearer=self.token(headers={"typ": kind})))
        assert "typ" in denial.detail

    async def test_an_access_token_of_rfc_9068(self, identifier: UserIdentifier, provider: UserProvider) -> None:
        await named(identifier, provider, request(bearer=self.token(headers={"typ": "application/at+JWT"})))

    async def test_a_missing_scope(self, identifier: UserIdentifier, provider: UserProvider) -> None:
        denial = await denied(identifier, provider, request(bearer=self.token(scope="read")))
        assert denial.reason is Reason.NOT_PERMITTED

    async def test_an_outage_of_the_issuer(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
    ) -> None:
        idp.status = 500
        with pytest.raises(Unavailable):
            await identifier.identify(request(bearer=self.token()), provider, NOW)

    async def test_a_withdrawn_key_ends_its_tokens(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
    ) -> None:
        token = self.token()
        await named(identifier, provider, request(bearer=token))
        public = jwt.get_algorithm_by_name("RS256").to_jwk(OURS.public_key(), as_dict=True)
        idp.answer = {"keys": [{**public, "kid": "k2"}]}
        await named(identifier, provider, request(bearer=self.token(OURS, {"kid": "k2"})))
        assert (await denied(identifier, provider, request(bearer=token))).detail == "unknown key"

    async def test_a_shared_secret(self, identifier: UserIdentifier, compiled: Compile) -> None:
        secret = "0123456789abcdef0123456789abcdef"
        provider = compiled(
            {"JWT_SECRET": secret},
            kind="jwt",
            name="own",
            issuer="https://id.example",
            audiences=["paymesh"],
            algorithms=["HS256"],
            secret={"env": "JWT_SECRET"},
            token_from={"header": "x-user-token"},
        )
        claims = {"iss": "https://id.example", "aud": "paymesh", "sub": "u", "iat": NOW, "exp": NOW + 9}
        token = jwt.encode(claims, secret, algorithm="HS256", headers={"kid": "any"})
        assert (await named(identifier, provider, request(**{"x-user-token": token}))).id == "u"
        assert secret not in repr(provider)


class TestIntrospection:
    @pytest.fixture
    def provider(self, compiled: Compile, idp: IdentityProvider) -> UserProvider:
        idp.answer = {"active": True, "sub": "u-1", "scope": "pay read", "aud": ["paymesh"], "exp": NOW + 60}
        return compiled(
            {"CLIENT_SECRET": SECRET},
            kind="introspection",
            name="as",
            url=f"{idp.url}/introspect",
            client_id="gate way",
            client_secret={"env": "CLIENT_SECRET"},
            audiences=["paymesh"],
            required_scopes=["pay"],
        )

    async def test_what_is_asked_and_found(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
    ) -> None:
        user = await named(identifier, provider, request(bearer="opaque"))
        assert (user.id, user.scopes, user.expires_at_s) == ("u-1", {"pay", "read"}, NOW + 60)
        basic = base64.b64encode(f"{quote_plus('gate way')}:{quote_plus(SECRET)}".encode()).decode()
        (asked,) = idp.requests
        assert (asked["method_"], asked["token"], asked["token_type_hint"]) == ("POST", "opaque", "access_token")
        assert asked["authorization"] == f"Basic {basic}"

    @pytest.mark.parametrize(
        "changes",
        [
            {"active": False},
            {"exp": NOW},
            {"exp": "soon"},
            {"nbf": NOW + 1},
            {"aud": "another"},
            {"aud": None},
            {"sub": None},
            {"sub": ""},
            {"sub": "x" * 300},
            {"scope": 7},
            {"cnf": {"jkt": "x"}},
        ],
    )
    async def test_a_token_that_does_not_count(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider, changes: dict[str, object]
    ) -> None:
        assert isinstance(idp.answer, dict)
        idp.answer = {**idp.answer, **changes}
        assert (await denied(identifier, provider, request(bearer="opaque"))).reason is Reason.USER_INVALID

    async def test_a_missing_scope(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
    ) -> None:
        assert isinstance(idp.answer, dict)
        idp.answer = {**idp.answer, "scope": "read"}
        assert (await denied(identifier, provider, request(bearer="opaque"))).reason is Reason.NOT_PERMITTED

    async def test_an_answer_is_believed_no_longer_than_the_cache(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
    ) -> None:
        assert isinstance(idp.answer, dict)
        idp.answer = {**idp.answer, "exp": NOW + 9999}
        assert (await named(identifier, provider, request(bearer="opaque"))).expires_at_s == NOW + 300

    @pytest.mark.parametrize(
        ("status", "answer"),
        [
            (401, {"active": False}),
            (403, {}),
            (400, {}),
            (302, {}),
            (429, {}),
            (500, {"active": False}),
            (503, b""),
            (200, b""),
            (200, b"<html>"),
            (200, []),
            (200, {}),
            (200, {"active": "false"}),
            (200, {"active": 0}),
            (200, {"active": None}),
            (200, b'{"active": false, "active": true}'),
            (200, b'{"active": false, "x": "' + b"x" * 70_000 + b'"}'),
        ],
    )
    async def test_an_outage_is_no_refusal(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider, status: int, answer: object
    ) -> None:
        idp.status, idp.answer = status, answer
        with pytest.raises(Unavailable) as caught:
            await identifier.identify(request(bearer="opaque-token"), provider, NOW)
        assert "opaque-token" not in str(caught.value)


class TestUserinfo:
    @pytest.fixture
    def provider(self, compiled: Compile, idp: IdentityProvider) -> UserProvider:
        idp.answer = {"sub": "248289761001", "name": "Jane"}
        return compiled(kind="userinfo", name="oidc", url=f"{idp.url}/userinfo", cache="60s")

    async def test_what_is_asked_and_found(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
    ) -> None:
        user = await named(identifier, provider, request(bearer="opaque"))
        assert (user.id, user.expires_at_s) == ("248289761001", NOW + 60)
        assert (idp.requests[0]["method_"], idp.requests[0]["authorization"]) == ("GET", "Bearer opaque")

    @pytest.mark.parametrize(
        ("status", "challenge"),
        [(401, ""), (400, 'Bearer error="invalid_request"'), (403, 'Bearer realm="x", error="insufficient_scope"')],
    )
    async def test_a_refused_token(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider, status: int, challenge: str
    ) -> None:
        idp.status, idp.headers = status, {"www-authenticate": challenge}
        assert (await denied(identifier, provider, request(bearer="opaque"))).reason is Reason.USER_INVALID

    @pytest.mark.parametrize(
        ("status", "answer"),
        [(400, {}), (403, {}), (404, {}), (500, {}), (302, {}), (200, {}), (200, b"eyJ"), (200, {"sub": 1})],
    )
    async def test_an_outage_is_no_refusal(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider, status: int, answer: object
    ) -> None:
        idp.status, idp.answer = status, answer
        with pytest.raises(Unavailable):
            await identifier.identify(request(bearer="opaque"), provider, NOW)


class TestAlipay:
    RESPONSE = "alipay_system_oauth_token_response"

    @pytest.fixture
    def provider(self, compiled: Compile, idp: IdentityProvider) -> UserProvider:
        idp.answer = alipay_answer(ALIPAY, self.RESPONSE, '{ "user_id" : "2088102150477652",  "expires_in": "300" }')
        return compiled(
            {"OURS": private_pem(OURS)},
            kind="alipay_oauth",
            name="alipay",
            url=f"{idp.url}/gateway.do",
            app_id="2014072300007148",
            private_key={"env": "OURS"},
            alipay_public_key=public_pem(ALIPAY),
        )

    async def test_what_is_asked_and_found(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
    ) -> None:
        user = await named(identifier, provider, request(target="/pay?auth_code=4b203fe6&x=1"))
        assert user.header_value == "alipay:2088102150477652"
        asked = dict(idp.requests[0])
        assert (asked.pop("path"), asked.pop("method_"), asked.pop("authorization")) == ("/gateway.do", "POST", "")
        sign = base64.b64decode(asked.pop("sign"))
        assert asked["method"] == "alipay.system.oauth.token"
        assert (asked["grant_type"], asked["code"], asked["sign_type"]) == ("authorization_code", "4b203fe6", "RSA2")
        text = "&".join(f"{name}={asked[name]}" for name in sorted(asked))
        OURS.public_key().verify(sign, text.encode(), padding.PKCS1v15(), SHA256())
        with pytest.raises(InvalidSignature):
            OURS.public_key().verify(sign, text.encode() + b" ", padding.PKCS1v15(), SHA256())

    async def test_a_newer_applications_open_id(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
    ) -> None:
        idp.answer = alipay_answer(ALIPAY, self.RESPONSE, '{"code":"10000","open_id":"074a1CcTG1LelxKe4xQC0zgN"}')
        assert (await named(identifier, provider, request(target="/?auth_code=a"))).id == "074a1CcTG1LelxKe4xQC0zgN"

    async def test_escapes_are_signed_as_they_stand(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
    ) -> None:
        idp.answer = alipay_answer(ALIPAY, self.RESPONSE, '{"user_id":"2088","x":"a\\/b \\u4e2d 中"}')
        assert (await named(identifier, provider, request(target="/?auth_code=a"))).id == "2088"

    @pytest.mark.parametrize("name", ["error_response", RESPONSE])
    async def test_a_refused_code(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider, name: str
    ) -> None:
        text = '{"code":"40002","msg":"Invalid Arguments","sub_code":"isv.code-invalid"}'
        idp.answer = alipay_answer(ALIPAY, name, text)
        assert (await denied(identifier, provider, request(target="/?auth_code=a"))).reason is Reason.USER_INVALID

    @pytest.mark.parametrize(
        "text",
        [
            '{"code":"20000","sub_code":"isp.unknow-error"}',
            '{"code":"40002","sub_code":"isv.invalid-app-id"}',
            '{"code":"40004","sub_code":["isv.code-invalid"]}',
            '{"code":"40004"}',
            "{}",
            '{"user_id":2088}',
            '"text"',
            "[]",
        ],
    )
    async def test_signed_answers_that_say_nothing_of_the_code(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider, text: str
    ) -> None:
        idp.answer = alipay_answer(ALIPAY, self.RESPONSE, text)
        with pytest.raises(Unavailable):
            await identifier.identify(request(target="/?auth_code=a"), provider, NOW)

    async def test_answers_that_alipay_did_not_sign(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
    ) -> None:
        good = alipay_answer(ALIPAY, self.RESPONSE, '{"user_id":"2088"}')
        document = json.loads(good)
        wrong: list[object] = [
            alipay_answer(OURS, self.RESPONSE, '{"user_id":"2088"}'),
            good.replace(b"2088", b"2089"),
            good.replace(b'{"user_id"', b'{ "user_id"'),
            {name: value for name, value in document.items() if name != "sign"},
            {**document, "sign": ""},
            {**document, "sign": 7},
            {**document, "error_response": {"code": "40002", "sub_code": "isv.code-invalid"}},
            {"sign": document["sign"]},
            alipay_answer(OURS, "error_response", '{"code":"40002","sub_code":"isv.code-invalid"}'),
        ]
        for number, answer in enumerate(wrong):
            idp.answer = answer
            with pytest.raises(Unavailable):
                await identifier.identify(request(target=f"/?auth_code=c{number}"), provider, NOW)


class TestWechat:
    @pytest.fixture(params=["oauth2", "mini_program"])
    def endpoint(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def provider(self, compiled: Compile, idp: IdentityProvider, endpoint: str) -> UserProvider:
        idp.answer = {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "session_key": "x", "scope": "snsapi_base"}
        return compiled(
            {"WX": WECHAT_SECRET},
            kind="wechat_oauth",
            name="wechat",
            url=idp.url,
            endpoint=endpoint,
            app_id="wxd678efh567hg6787",
            app_secret={"env": "WX"},
        )

    async def test_what_is_asked_and_found(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider, endpoint: str
    ) -> None:
        user = await named(identifier, provider, request(target="/?code=081"))
        assert (user.id, user.scopes) == ("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", {"snsapi_base"})
        asked = dict(idp.requests[0])
        mini = endpoint == "mini_program"
        assert asked["path"] == ("/sns/jscode2session" if mini else "/sns/oauth2/access_token")
        assert asked["js_code" if mini else "code"] == "081"
        assert (asked["appid"], asked["secret"]) == ("wxd678efh567hg6787", WECHAT_SECRET)
        assert asked["grant_type"] == "authorization_code"

    @pytest.mark.parametrize("code", [40029, 40163])
    async def test_a_refused_code(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider, code: int
    ) -> None:
        idp.answer = {"errcode": code, "errmsg": "no"}
        assert (await denied(identifier, provider, request(target="/?code=081"))).reason is Reason.USER_INVALID

    @pytest.mark.parametrize(
        "answer",
        [
            {"errcode": -1},
            {"errcode": 45011},
            {"errcode": 40125},
            {"errcode": "40029"},
            {"errcode": [40029]},
            {"errcode": None},
            {},
            {"openid": 1},
            b"busy",
        ],
    )
    async def test_an_outage_is_no_refusal(
        self, identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider, answer: object
    ) -> None:
        idp.answer = answer
        with pytest.raises(Unavailable) as caught:
            await identifier.identify(request(target="/?code=c0de081"), provider, NOW)
        assert WECHAT_SECRET not in str(caught.value)
        assert "c0de081" not in str(caught.value)

    async def test_the_secret_is_not_shown_when_nobody_answers(
        self, identifier: UserIdentifier, compiled: Compile, caplog: pytest.LogCaptureFixture
    ) -> None:
        provider = compiled(
            {"WX": WECHAT_SECRET},
            kind="wechat_oauth",
            name="wechat",
            url="http://127.0.0.1:1",
            app_id="wx",
            app_secret={"env": "WX"},
        )
        caplog.set_level("DEBUG")
        with pytest.raises(Unavailable) as caught:
            await identifier.identify(request(target="/?code=c0de081"), provider, NOW)
        chain: BaseException | None = caught.value
        seen = caplog.text + repr(provider)
        while chain is not None:
            seen += repr(chain)
            chain = chain.__cause__ or chain.__context__
        assert WECHAT_SECRET not in seen
        assert "c0de081" not in seen
