"""Others are asked about a release: only a well-formed yes is one, and nothing that was asked is shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from control_plane.releases.asking import MAX_ANSWER_BYTES, Subject, ask_before, ask_prometheus, ask_webhook, tell_after
from paymesh.payments.releases.analysis import Verdict
from paymesh.payments.releases.checks import PrometheusCheck, WebhookCheck
from paymesh.payments.releases.plan import Hooks
from paymesh.server.http_fetch import AiohttpFetch

SUBJECT = Subject("trade-v2", "trade", "v1", "v2", "holding", 1, 1_000, 300, "because")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def says(text: str, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, headers=headers)

    return answer


def result(kind: str, value: object) -> Answer:
    return says(json.dumps({"status": "success", "data": {"resultType": kind, "result": value}}))


def number(value: str) -> Answer:
    return result("vector", [{"metric": {}, "value": [1_800_000_000.1, value]}])


async def slow(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(5)
    return web.Response()


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@dataclass
class Server:
    """Answers what it is told to, path by path; the default for all."""

    fetch: AiohttpFetch
    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    default: Answer = field(default_factory=lambda: says("{}"))
    seen: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    """Path with query, headers, body."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((str(request.rel_url), headers, await request.text()))
        return await self.answers.get(request.path, self.default)(request)

    def url(self, path: str = "") -> str:
        return f"http://user:s3cret@127.0.0.1:{self.port}{path}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server(AiohttpFetch())
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", found.answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    yield found
    await found.fetch.aclose()
    await runner.cleanup()


def prometheus(server: Server, at_least: str | None = None, at_most: str | None = "0.5") -> PrometheusCheck:
    return PrometheusCheck("errors", server.url("/prom/"), "up", at_least, at_most, timeout_ms=300)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (number("0.25"), Verdict.PASS),
        (number("0.5"), Verdict.PASS),
        (number("0.50000000000000000001"), Verdict.FAIL),
        (number("5e-1"), Verdict.PASS),
        (result("scalar", [1_800_000_000, "1"]), Verdict.FAIL),
        (result("scalar", [1_800_000_000, "0"]), Verdict.PASS),
    ],
)
async def test_one_number_is_compared(server: Server, answer: Answer, verdict: Verdict) -> None:
    server.default = answer
    assert (await ask_prometheus(server.fetch, prometheus(server), SUBJECT)).verdict is verdict


async def test_bounds_on_both_sides_are_said(server: Server) -> None:
    server.default = number("0.4")
    found = await ask_prometheus(server.fetch, prometheus(server, "0.1"), SUBJECT)
    assert (found.verdict, found.why) == (Verdict.PASS, "0.4 is at least 0.1 and at most 0.5")
    found = await ask_prometheus(server.fetch, prometheus(server, "0.41", None), SUBJECT)
    assert (found.verdict, found.why) == (Verdict.FAIL, "0.4 is below 0.41")


NO_NUMBERS: dict[str, Answer] = {
    "nan": number("NaN"),
    "inf": number("+Inf"),
    "word": number("many"),
    "none": result("vector", []),
    "two": result("vector", [{"value": [1, "0"]}, {"value": [1, "0"]}]),
    "matrix": result("matrix", [{"values": [[1, "0"]]}]),
    "binary float": result("scalar", [1, 0.1]),
    "error": says('{"status": "error", "errorType": "bad_data"}'),
    "status": says('{"status": "success"}', status=500),
    "redirect": says("", status=302, location="http://127.0.0.1:1/elsewhere"),
    "text": says("s3cret"),
    "list": says("[]"),
    "deep": says("[" * 100_000),
    "long": says(" " * (MAX_ANSWER_BYTES + 1)),
    "slow": slow,
    "cut": cut,
}


@pytest.mark.parametrize("answer", NO_NUMBERS.values(), ids=NO_NUMBERS)
async def test_whatever_is_no_number_leaves_it_open(server: Server, answer: Answer) -> None:
    server.default = answer
    found = await ask_prometheus(server.fetch, prometheus(server), SUBJECT)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.why
    for hidden in ("s3cret", "prom", "query=", "user"):
        assert hidden not in found.why.replace("the query", "")


async def test_nobody_there(server: Server) -> None:
    check = PrometheusCheck("errors", "http://127.0.0.1:1", "up", None, "1", timeout_ms=300)
    found = await ask_prometheus(server.fetch, check, SUBJECT)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.why.startswith("127.0.0.1: ")


async def test_the_query_is_filled_in(server: Server) -> None:
    server.default = number("0")
    query = 'x{s="{{service}}",a="{{stable}}",b="{{target}}"}[{{window}}] & {{other}}'
    check = PrometheusCheck("errors", server.url(), query, None, "1")
    await ask_prometheus(server.fetch, check, SUBJECT)
    ((target, _, _),) = server.seen
    assert target.startswith("/api/v1/query?query=")
    filled = 'x{s="trade",a="v1",b="v2"}[300s] & {{other}}'
    assert parse_qs(urlsplit(target).query) == {"query": [filled]}


@pytest.mark.parametrize("verdict", list(Verdict))
async def test_a_webhook_says_what_it_thinks(server: Server, verdict: Verdict) -> None:
    server.default = says(json.dumps({"verdict": verdict, "why": "the\ndesk\x1b[31m says" + "!" * 500}))
    check = WebhookCheck("desk", server.url("/desk"), timeout_ms=300)
    found = await ask_webhook(server.fetch, check, SUBJECT)
    assert found.verdict is verdict
    assert found.why.startswith("the desk [31m says!")
    assert len(found.why) == 300
    ((_, _, body),) = server.seen
    assert json.loads(body)["release"] == "trade-v2"
    assert json.loads(body)["share"] == 1_000


@pytest.mark.parametrize(
    "answer",
    [*NO_NUMBERS.values(), says('{"verdict": "yes"}'), says('{"verdict": true}'), says('{"verdict": ["pass"]}')],
)
async def test_a_webhook_that_says_nothing_leaves_it_open(server: Server, answer: Answer) -> None:
    server.default = answer
    check = WebhookCheck("desk", server.url("/desk"), timeout_ms=300)
    found = await ask_webhook(server.fetch, check, SUBJECT)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "s3cret" not in found.why


class TestHooks:
    async def test_before_stops_at_the_first_that_does_not_agree(self, server: Server) -> None:
        server.answers = {"/b": says("busy", status=409)}
        hooks = Hooks(before=tuple(server.url(path) for path in ("/a", "/b", "/c")), timeout_ms=300)
        assert await ask_before(server.fetch, hooks, SUBJECT, 7) == "127.0.0.1: answered 409"
        assert [path for path, _, _ in server.seen] == ["/a", "/b"]
        server.answers = {"/b": says("", status=204)}
        assert await ask_before(server.fetch, hooks, SUBJECT, 7) == ""

    async def test_after_tells_all_and_names_who_did_not_hear(self, server: Server) -> None:
        server.answers = {"/a": says("", status=500), "/b": slow, "/c": says("", status=301, location="/d")}
        hooks = Hooks(after=tuple(server.url(path) for path in ("/a", "/b", "/c", "/e")), timeout_ms=300)
        failed = await tell_after(server.fetch, hooks, SUBJECT, 7)
        assert failed == "127.0.0.1: answered 500; 127.0.0.1: no answer in time; 127.0.0.1: answered 301"
        assert sorted(path for path, _, _ in server.seen) == ["/a", "/b", "/c", "/e"]

    async def test_what_they_are_told(self, server: Server) -> None:
        await ask_before(server.fetch, Hooks(before=(server.url("/a"),)), SUBJECT, 7)
        await tell_after(server.fetch, Hooks(after=(server.url("/a"),)), SUBJECT, 7)
        keys = [headers["idempotency-key"] for _, headers, _ in server.seen]
        assert keys == ["trade-v2/7/before", "trade-v2/7/after"]
        told = json.loads(server.seen[0][2])
        assert told == {
            "release": "trade-v2",
            "service": "trade",
            "stable": "v1",
            "target": "v2",
            "phase": "holding",
            "step": 1,
            "share": 1_000,
            "window_s": 300,
            "why": "because",
            "change": 7,
            "when": "before",
        }
