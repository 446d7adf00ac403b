"""Asking: remembered, once at a time, bounded; several providers; and where tokens are found."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.denial import Denial, Reason, Unavailable
from paymesh.payments.request import Request
from paymesh.payments.users import identify
from paymesh.payments.users.answer_cache import AnswerCache, cache_key
from paymesh.payments.users.identify import UserIdentifier
from paymesh.payments.users.providers import TokenFrom, UserinfoProvider, UserProvider
from paymesh.payments.users.token import read_token
from paymesh.payments.users.user import MAX_HEADER_CHARS, User, identified
from tests.unit.payments.users.conftest import Compile
from tests.unit.payments.users.idp import IdentityProvider

NOW = 1_800_000_000
BEARER = TokenFrom(header="authorization")
CODE = TokenFrom(query="code")


def request(token: str = "t", target: str = "/pay", **headers: str) -> Request:
    given = {"authorization": f"Bearer {token}", **headers}
    return Request("POST", target, {name: (value,) for name, value in given.items()}, b"", "r-1")


@pytest.fixture
def provider(compiled: Compile, idp: IdentityProvider) -> UserProvider:
    idp.answer = {"sub": "u-1"}
    return compiled(kind="userinfo", name="oidc", url=f"{idp.url}/userinfo", timeout="5s", max_concurrent_requests=3)


async def test_a_thousand_requests_ask_once(
    identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
) -> None:
    found = await asyncio.gather(*(identifier.identify(request(), provider, NOW) for _ in range(1000)))
    assert {user.id for user in found if isinstance(user, User)} == {"u-1"}
    assert len(idp.requests) == 1


async def test_an_answer_is_believed_until_it_expires(
    identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
) -> None:
    for now_s, asked in ((NOW, 1), (NOW + 299, 1), (NOW + 300, 2)):
        assert isinstance(await identifier.identify(request(), provider, now_s), User)
        assert len(idp.requests) == asked


async def test_a_refusal_is_remembered_for_five_seconds(
    identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
) -> None:
    idp.status = 401
    for now_s, asked in ((NOW, 1), (NOW + 4, 1), (NOW + 5, 2)):
        assert isinstance(await identifier.identify(request(), provider, now_s), Denial)
        assert len(idp.requests) == asked
    idp.status = 200
    assert isinstance(await identifier.identify(request(), provider, NOW + 10), User)


async def test_an_outage_is_not_remembered(
    identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
) -> None:
    idp.status = 500
    with pytest.raises(Unavailable):
        await identifier.identify(request(), provider, NOW)
    idp.status = 200
    assert isinstance(await identifier.identify(request(), provider, NOW), User)


async def test_so_many_at_once_and_no_more(
    identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
) -> None:
    idp.gate.clear()
    asking = [asyncio.create_task(identifier.identify(request(f"t{n}"), provider, NOW)) for n in range(20)]
    await idp.asked(3)
    await asyncio.sleep(0.02)
    assert idp.most_at_once == 3
    idp.gate.set()
    assert all(isinstance(user, User) for user in await asyncio.gather(*asking))
    assert idp.most_at_once == 3


async def test_so_many_wait_and_no_more(
    identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identify, "MAX_WAITING", 5)
    idp.gate.clear()
    asking = [asyncio.create_task(identifier.identify(request(f"t{n}"), provider, NOW)) for n in range(5)]
    await idp.asked(3)
    with pytest.raises(Unavailable, match="too many"):
        await identifier.identify(request("more"), provider, NOW)
    idp.gate.set()
    await asyncio.gather(*asking)
    assert isinstance(await identifier.identify(request("more"), provider, NOW), User)


async def test_the_deadline_covers_waiting_for_a_turn(
    identifier: UserIdentifier, compiled: Compile, idp: IdentityProvider
) -> None:
    provider = compiled(kind="userinfo", name="slow", url=idp.url, timeout="50ms", max_concurrent_requests=1)
    idp.gate.clear()
    asking = [identifier.identify(request(f"t{n}"), provider, NOW) for n in range(3)]
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in found)


async def test_a_code_whose_first_caller_went_away_still_names_its_person(
    identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
) -> None:
    idp.gate.clear()
    first = asyncio.create_task(identifier.identify(request(), provider, NOW))
    await idp.asked(1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    idp.gate.set()
    assert isinstance(await identifier.identify(request(), provider, NOW), User)
    assert len(idp.requests) == 1


async def test_a_changed_provider_asks_again(
    identifier: UserIdentifier, compiled: Compile, idp: IdentityProvider
) -> None:
    idp.answer = {"active": True, "sub": "u-1"}
    document = {"kind": "introspection", "name": "as", "url": idp.url, "client_id": "c", "client_secret": {"env": "S"}}
    for environ, changes, asked in (
        ({"S": "one"}, {}, 1),
        ({"S": "one"}, {}, 1),
        ({"S": "two"}, {}, 2),
        ({"S": "two"}, {"required_scopes": ["pay"]}, 3),
    ):
        await identifier.identify(request(), compiled(environ, **document, **changes), NOW)  # type: ignore[arg-type]
        assert len(idp.requests) == asked


async def test_two_providers_never_share_an_answer(
    identifier: UserIdentifier, compiled: Compile, idp: IdentityProvider
) -> None:
    idp.answer = {"sub": "u-1"}
    one, two = (compiled(kind="userinfo", name=name, url=idp.url) for name in ("one", "two"))
    found = [await identifier.identify(request(), provider, NOW) for provider in (one, two)]
    assert [user.header_value for user in found if isinstance(user, User)] == ["one:u-1", "two:u-1"]


async def test_close_ends_what_is_under_way(
    identifier: UserIdentifier, provider: UserProvider, idp: IdentityProvider
) -> None:
    idp.gate.clear()
    asking = asyncio.create_task(identifier.identify(request(), provider, NOW))
    await idp.asked(1)
    await identifier.close()
    with pytest.raises(asyncio.CancelledError):
        await asking


class TestSeveralProviders:
    @pytest.fixture
    def others(self, compiled: Compile, idp: IdentityProvider) -> tuple[UserProvider, UserProvider]:
        idp.answer = {"sub": "u-1"}
        by_header = compiled(kind="userinfo", name="a", url=f"{idp.url}/a", token_from={"header": "x-token"})
        return by_header, compiled(kind="userinfo", name="b", url=f"{idp.url}/b")

    async def test_no_token_at_all(
        self, identifier: UserIdentifier, others: tuple[UserProvider, UserProvider], idp: IdentityProvider
    ) -> None:
        found = await identifier.identify_by_any(Request("GET", "/", {}, b"", "r"), others, NOW)
        assert isinstance(found, Denial)
        assert (found.reason, found.detail) == (Reason.USER_MISSING, "no token for a, b")
        assert idp.requests == []

    async def test_each_sees_its_own_token_only(
        self, identifier: UserIdentifier, others: tuple[UserProvider, UserProvider], idp: IdentityProvider
    ) -> None:
        found = await identifier.identify_by_any(request("for-b"), others, NOW)
        assert isinstance(found, User)
        assert found.provider == "b"
        assert [asked["path"] for asked in idp.requests] == ["/b"]

    async def test_a_refusal_by_one_is_no_refusal_by_all(
        self,
        identifier: UserIdentifier,
        compiled: Compile,
        others: tuple[UserProvider, UserProvider],
        idp: IdentityProvider,
    ) -> None:
        own = compiled(
            {"S": "s" * 32},
            kind="jwt",
            name="own",
            issuer="i",
            audiences=["a"],
            algorithms=["HS256"],
            secret={"env": "S"},
        )
        found = await identifier.identify_by_any(request("opaque"), (own, others[1]), NOW)
        assert isinstance(found, User)
        idp.status = 401
        refused = await identifier.identify_by_any(request("other"), (own, others[1]), NOW)
        assert isinstance(refused, Denial)
        assert refused.reason is Reason.USER_INVALID

    async def test_an_outage_of_one_is_no_refusal_by_another(
        self,
        identifier: UserIdentifier,
        compiled: Compile,
        others: tuple[UserProvider, UserProvider],
        idp: IdentityProvider,
    ) -> None:
        dead = compiled(kind="userinfo", name="dead", url="http://127.0.0.1:1", token_from={"header": "x-dead"})
        idp.status = 401
        with pytest.raises(Unavailable):
            await identifier.identify_by_any(request("t", **{"x-dead": "t"}), (dead, others[1]), NOW)
        idp.status = 200
        assert isinstance(
            await identifier.identify_by_any(request("u", **{"x-dead": "t"}), (dead, others[1]), NOW), User
        )


class TestCache:
    def provider(self) -> UserinfoProvider:
        return UserinfoProvider(
            name="p",
            token_from=BEARER,
            timeout_s=1,
            cache_s=300,
            max_concurrent_requests=1,
            url="https://id.example/",
            version="v",
        )

    def test_made_up_tokens_push_out_no_genuine_one(self) -> None:
        cache, provider = AnswerCache(capacity=10), self.provider()
        genuine = cache_key(provider, "genuine")
        cache.put(genuine, User("u", "p", NOW + 300), NOW)
        for number in range(1000):
            cache.put(cache_key(provider, f"made-up-{number}"), Denial(Reason.USER_INVALID, ""), NOW)
        assert isinstance(cache.get(genuine, NOW), User)
        assert cache.get(cache_key(provider, "made-up-0"), NOW) is None
        assert isinstance(cache.get(cache_key(provider, "made-up-999"), NOW), Denial)

    def test_the_least_used_goes_first(self) -> None:
        cache, provider = AnswerCache(capacity=2), self.provider()
        keys = [cache_key(provider, name) for name in "abc"]
        cache.put(keys[0], User("a", "p", NOW + 300), NOW)
        cache.put(keys[1], User("b", "p", NOW + 300), NOW)
        assert cache.get(keys[0], NOW)
        cache.put(keys[2], User("c", "p", NOW + 300), NOW)
        assert [cache.get(key, NOW) is not None for key in keys] == [True, False, True]

    def test_a_key_does_not_hold_the_token(self) -> None:
        assert b"secret" not in repr(cache_key(self.provider(), "secret")).encode()


class TestTokens:
    @pytest.mark.parametrize("value", ["Bearer abc", "bearer abc", "BEARER   abc", "Bearer abc "])
    def test_a_bearer(self, value: str) -> None:
        assert read_token(Request("GET", "/", {"authorization": (value,)}, b"", "r"), BEARER) == "abc"

    @pytest.mark.parametrize("value", ["", "Basic abc", 'WECHATPAY2-SHA256-RSA2048 mchid="1"', "abc", "Bearer-x abc"])
    def test_no_bearer(self, value: str) -> None:
        assert read_token(Request("GET", "/", {"authorization": (value,)}, b"", "r"), BEARER) is None

    @pytest.mark.parametrize(
        "value", ["Bearer", "Bearer ", "Bearer a b", "Bearer a,b", "Bearer é", "Bearer " + "a" * 8193]
    )
    def test_a_malformed_bearer(self, value: str) -> None:
        found = read_token(Request("GET", "/", {"authorization": (value,)}, b"", "r"), BEARER)
        assert isinstance(found, Denial)
        assert found.reason is Reason.USER_INVALID

    def test_twice(self) -> None:
        for name, place in (("authorization", BEARER), ("x-t", TokenFrom(header="x-t"))):
            found = read_token(Request("GET", "/", {name: ("Bearer a", "Bearer b")}, b"", "r"), place)
            assert isinstance(found, Denial)
        assert isinstance(read_token(Request("GET", "/?code=a&code=a", {}, b"", "r"), CODE), Denial)

    @pytest.mark.parametrize(
        ("target", "token"),
        [
            ("/?code=a%2Fb", "a/b"),
            ("/?x&code=a", "a"),
            ("/?Code=a", None),
            ("/?code=", None),
            ("/?code", None),
            ("/code=a", None),
            ("/", None),
            ("/?c%6Fde=a", "a"),
            ("/?x=%26code%3Da", None),
        ],
    )
    def test_in_the_query(self, target: str, token: str | None) -> None:
        assert read_token(Request("GET", target, {}, b"", "r"), CODE) == token

    @pytest.mark.parametrize(
        "target", ["/?code=%ff", "/?code=a%0ab", "/?code=a+b", "/?" + "a&" * 300, "/?code=%E4%B8%AD"]
    )
    def test_a_malformed_query(self, target: str) -> None:
        assert isinstance(read_token(Request("GET", target, {}, b"", "r"), CODE), Denial)

    @given(st.text(), st.text())
    def test_any_text(self, query: str, header: str) -> None:
        found = Request("GET", f"/?{query}", {"authorization": (header,)}, b"", "r")
        for place in (BEARER, CODE, TokenFrom(header="x")):
            assert isinstance(read_token(found, place), str | Denial | None)

    @given(st.binary())
    def test_any_bytes_as_headers_come(self, value: bytes) -> None:
        text = value.decode("utf-8", "surrogateescape")
        for asked in (text, f"Bearer {text}"):
            found = read_token(Request("GET", f"/?code={text}", {"authorization": (asked,)}, b"", "r"), BEARER)
            assert isinstance(found, str | Denial | None)
        assert isinstance(read_token(Request("GET", f"/?code={text}", {}, b"", "r"), CODE), str | Denial | None)


@given(st.text())
def test_the_header_is_short_visible_ascii_or_there_is_no_user(name: str) -> None:
    found = identified(User(name, "provider", NOW))
    if isinstance(found, User):
        assert name
        assert len(found.header_value) <= MAX_HEADER_CHARS
        assert found.header_value.isascii()
        assert all("!" <= char <= "~" for char in found.header_value)
        assert found.header_value.startswith("provider:")


@pytest.mark.parametrize("name", ["", "中" * 40, "x" * 256, "\udc80"])
def test_an_id_that_cannot_be_sent(name: str) -> None:
    assert isinstance(identified(User(name, "provider", NOW)), Denial)


def test_two_ids_never_have_one_header() -> None:
    names = ["a", "a%20", "a ", "a:b", "a%3Ab", "A", "a\n", "a/b"]
    assert len({User(name, "p", NOW).header_value for name in names}) == len(names)
