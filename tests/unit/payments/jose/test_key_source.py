"""Key sets behind a real URL: how often it is asked, what serves while it fails, and when nothing is known."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from paymesh.payments.denial import Unavailable
from paymesh.payments.jose.fetch import FetchResponse
from paymesh.payments.jose.key_source import Freshness, KeySources, KeyUrlTimes, UrlKeys, fresh_for_s
from paymesh.payments.jose.keys import JwsAlgorithm, secret_keys
from paymesh.payments.secrets import Secret
from paymesh.server.http_fetch import AiohttpFetch

ED = JwsAlgorithm.EDDSA
TIMES = KeyUrlTimes(deadline_s=2.0)


def key_set(*kids: str) -> dict[str, object]:
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid} for kid in kids]}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Issuer:
    """Publishes keys, well or badly."""

    def __init__(self) -> None:
        self.kids: tuple[str, ...] = ("a",)
        self.status = 200
        self.body: bytes | None = None
        self.headers: dict[str, str] = {}
        self.requests = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    async def answer(self, _: web.Request) -> web.Response:
        self.requests += 1
        await self.gate.wait()
        body = json.dumps(key_set(*self.kids)).encode() if self.body is None else self.body
        return web.Response(status=self.status, body=body, headers=self.headers)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    found = Issuer()
    app = web.Application()
    app.router.add_get("/jwks", found.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    yield found
    found.gate.set()
    await runner.cleanup()


@pytest.fixture
async def fetch() -> AsyncIterator[AiohttpFetch]:
    found = AiohttpFetch()
    yield found
    await found.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def source(issuer: Issuer, fetch: AiohttpFetch, clock: Clock) -> AsyncIterator[UrlKeys]:
    found = UrlKeys(issuer.url, fetch, TIMES, clock)
    yield found
    await found.close()


async def kids(source: UrlKeys, kid: str | None) -> list[str | None]:
    return [key.kid for key in await source.keys(kid, ED)]


async def settled(source: UrlKeys) -> None:
    """Until no request is under way."""
    while source._task is not None:
        await asyncio.sleep(0.001)


async def test_a_thousand_requests_fetch_once(source: UrlKeys, issuer: Issuer) -> None:
    found = await asyncio.gather(*(kids(source, "a") for _ in range(1000)))
    assert all(one == ["a"] for one in found)
    assert issuer.requests == 1


async def test_a_thousand_unknown_kids_are_no_storm(source: UrlKeys, issuer: Issuer, clock: Clock) -> None:
    found = await asyncio.gather(*(kids(source, f"unknown-{number}") for number in range(1000)))
    for number in range(1000):
        found.append(await kids(source, f"later-{number}"))
    assert not any(found)
    assert issuer.requests <= 2
    clock.now += 11
    await asyncio.gather(*(kids(source, f"again-{number}") for number in range(1000)))
    assert issuer.requests <= 3


async def test_a_new_key_is_found_by_its_kid(source: UrlKeys, issuer: Issuer) -> None:
    assert await kids(source, "a") == ["a"]
    issuer.kids = ("a", "b")
    assert await kids(source, "b") == ["b"]
    assert issuer.requests == 2


async def test_a_kid_that_was_unknown_is_found_ten_seconds_later(source: UrlKeys, issuer: Issuer, clock: Clock) -> None:
    await kids(source, "a")
    assert await kids(source, "b") == []
    issuer.kids = ("b",)
    assert await kids(source, "b") == []
    clock.now += 10.1
    assert await kids(source, "b") == ["b"]


async def test_a_key_that_is_withdrawn_is_gone_with_the_next_set(source: UrlKeys, issuer: Issuer, clock: Clock) -> None:
    assert await kids(source, "a") == ["a"]
    issuer.kids = ("b",)
    clock.now += 301
    assert await kids(source, "a") == []


async def test_a_set_is_renewed_before_it_expires_and_nobody_waits(
    source: UrlKeys, issuer: Issuer, clock: Clock
) -> None:
    await kids(source, "a")
    issuer.gate.clear()
    issuer.kids = ("a", "b")
    clock.now += 241
    assert await kids(source, "a") == ["a"]
    issuer.gate.set()
    await settled(source)
    assert await kids(source, "b") == ["b"]
    assert issuer.requests == 2


async def test_a_stale_set_serves_while_the_url_fails_and_then_nothing_does(
    source: UrlKeys, issuer: Issuer, clock: Clock
) -> None:
    await kids(source, "a")
    issuer.status = 500
    clock.now += 301
    assert await kids(source, "a") == ["a"]
    assert source.freshness is Freshness.STALE
    clock.now += 3500
    assert await kids(source, "a") == ["a"]
    clock.now += 200
    with pytest.raises(Unavailable):
        await kids(source, "a")
    assert source.freshness is Freshness.DEAD
    issuer.status = 200
    clock.now += 60
    assert await kids(source, "a") == ["a"]


async def test_while_the_url_fails_it_is_asked_less_and_less(source: UrlKeys, issuer: Issuer, clock: Clock) -> None:
    issuer.status = 503
    for _ in range(600):
        with pytest.raises(Unavailable):
            await kids(source, "a")
        clock.now += 0.1
    assert 4 <= issuer.requests <= 10


async def test_an_unknown_kid_during_an_outage_is_not_refused(source: UrlKeys, issuer: Issuer, clock: Clock) -> None:
    await kids(source, "a")
    issuer.status = 500
    for _ in range(3):
        with pytest.raises(Unavailable):
            await kids(source, "b")
    assert await kids(source, "a") == ["a"]
    assert issuer.requests == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', b" " * (257 * 1024)],
    ids=["empty", "html", "no key", "secret", "huge"],
)
async def test_a_bad_set_never_replaces_a_good_one(source: UrlKeys, issuer: Issuer, clock: Clock, body: bytes) -> None:
    await kids(source, "a")
    issuer.body = body
    clock.now += 301
    assert await kids(source, "a") == ["a"]


@pytest.mark.parametrize("status", [204, 301, 302, 304, 401, 404, 429, 500])
async def test_only_a_200_is_an_answer(source: UrlKeys, issuer: Issuer, status: int) -> None:
    issuer.status, issuer.headers = status, {"location": "/jwks"}
    with pytest.raises(Unavailable):
        await kids(source, "a")
    assert issuer.requests == 1


async def test_a_slow_url_is_given_up(issuer: Issuer, fetch: AiohttpFetch) -> None:
    source = UrlKeys(issuer.url, fetch, KeyUrlTimes(deadline_s=0.05))
    issuer.gate.clear()
    with pytest.raises(Unavailable):
        await kids(source, "a")
    await source.close()


async def test_a_caller_that_goes_away_takes_nothing_from_the_others(source: UrlKeys, issuer: Issuer) -> None:
    issuer.gate.clear()
    first = asyncio.create_task(kids(source, "a"))
    second = asyncio.create_task(kids(source, "a"))
    while not issuer.requests:
        await asyncio.sleep(0.001)
    first.cancel()
    issuer.gate.set()
    assert await second == ["a"]
    assert issuer.requests == 1


async def test_a_bug_while_reading_is_postponed_and_said(clock: Clock) -> None:
    class Broken:
        async def fetch(self, *_: object) -> FetchResponse:
            raise RuntimeError("a bug")

    source = UrlKeys("https://id.example/jwks", Broken(), TIMES, clock)
    with pytest.raises(RuntimeError):
        await kids(source, "a")
    with pytest.raises(Unavailable):
        await kids(source, "a")
    assert source.fetches == 1


async def test_sources_outlive_a_policy_and_are_forgotten_after_the_last(issuer: Issuer, fetch: AiohttpFetch) -> None:
    sources = KeySources(fetch)
    await sources.prefetch([issuer.url, issuer.url])
    assert sources.at(issuer.url) is sources.of(issuer.url)
    assert await kids(sources.at(issuer.url), "a") == ["a"]
    sources.keep_only([issuer.url])
    assert await kids(sources.at(issuer.url), "a") == ["a"]
    assert issuer.requests == 1
    before = sources.at(issuer.url)
    sources.keep_only([])
    assert sources.at(issuer.url) is not before
    await sources.close()


async def test_prefetching_survives_an_outage(issuer: Issuer, fetch: AiohttpFetch) -> None:
    sources = KeySources(fetch)
    issuer.status = 500
    await sources.prefetch([issuer.url])
    await sources.close()


async def test_a_secret_has_no_name(fetch: AiohttpFetch) -> None:
    source = KeySources(fetch).of(secret_keys(Secret(bytes(32))))
    assert len(await source.keys("whatever", JwsAlgorithm.HS256)) == 1
    assert await source.keys("whatever", ED) == ()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 300),
        ({"cache-control": "public"}, 300),
        ({"cache-control": "public, max-age=600"}, 600),
        ({"cache-control": "max-age=600", "age": "100"}, 500),
        ({"cache-control": "max-age=600", "age": "nonsense"}, 600),
        ({"cache-control": "MAX-AGE=600"}, 600),
        ({"cache-control": "s-maxage=10, max-age=600"}, 600),
        ({"cache-control": "max-age=1"}, 60),
        ({"cache-control": "max-age=9999999999"}, 86400),
        ({"cache-control": "max-age=99999999999999999999"}, 86400),
        ({"cache-control": "no-store, max-age=600"}, 60),
        ({"cache-control": "no-cache"}, 60),
        ({"cache-control": "max-age=-1"}, 300),
    ],
)
def test_how_long_an_answer_is_fresh(headers: dict[str, str], seconds: float) -> None:
    assert fresh_for_s(headers, TIMES) == seconds
