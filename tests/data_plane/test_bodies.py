"""Bodies through a real Envoy and a real ext_proc, both ways: the receiver gets exactly the bytes expected."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import io
import json
from collections.abc import AsyncIterator
from urllib.parse import quote_from_bytes

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.data_plane.ext_proc_gateway import REFUSED, Exchange, Gateway, line, running_gateway, send
from tests.data_plane.http2_client import send_http2

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
BOUNDARY = "-8Zq 4"
MULTIPART = f'multipart/form-data; boundary="{BOUNDARY}"'
UNKNOWN = "outcome_unknown"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path_factory.mktemp("bodies")) as running:
        running.upstream.scripts |= {"slow": _slow, "abort": _abort, "tagged": _tagged}
        yield running


# -- requests ----------------------------------------------------------------------------------------------------------


def parts(name: str, phone: str) -> bytes:
    """Two fields and a file of binary bytes, in the words of one client among many."""
    return (
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="name"\r\n\r\n{name}\r\n'
        f'--{BOUNDARY}\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; name="phone"\r\n\r\n{phone}\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode() + b"\x00\xff\r\n--\r\n" + f"\r\n--{BOUNDARY}--\r\n".encode()  # fmt: skip


REQUESTS = {
    "json, equal": (JSON, b'{"phone" : "13812341234"}\n', b'{"phone" : "138****1234"}\n'),
    "json, longer": (JSON, b'{"name":"\xe7\x94\xb2", "n":1.50}', b'{"name":"***", "n":1.50}'),
    "json, shorter": (JSON, b'{"name":"a name of some length"}', b'{"name":"***"}'),
    "json, unchanged": (JSON, b' {"a":"\\u5143"} ', b' {"a":"\\u5143"} '),
    "json, large": (
        JSON,
        b'{"pad":"' + b"x" * 3_000_000 + b'","name":"n"}',
        b'{"pad":"' + b"x" * 3_000_000 + b'","name":"***"}',
    ),
    "form, equal": (FORM, b"a=%e4%bd%a0+b&phone=13812341234&b=", b"a=%e4%bd%a0+b&phone=138****1234&b="),
    "form, longer": (FORM, b"name=a&%61=%2B", b"name=***&%61=%2B"),
    "form, shorter": (FORM, b"x=~&name=%E5%BC%A0%E4%B8%89", b"x=~&name=***"),
    "multipart": (MULTIPART, parts("a name", "13812341234"), parts("***", "138****1234")),
    "empty": (JSON, b"", b""),
}


async def chunked(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65_537):
        yield body[start : start + 65_537]


@pytest.mark.parametrize("case", REQUESTS)
@pytest.mark.parametrize("upload", ["content-length", "chunked"])
async def test_a_request_arrives_sanitised_and_otherwise_byte_for_byte(
    gateway: Gateway, case: str, upload: str
) -> None:
    content_type, body, expected = REQUESTS[case]
    sent = chunked(body) if upload == "chunked" else io.BytesIO(body)
    exchange = await send(gateway, "/sanitized", sent, content_type=content_type)
    assert (exchange.status, exchange.received) == (200, [expected])


@pytest.mark.parametrize("case", REQUESTS)
@pytest.mark.parametrize("length_known", [True, False])
async def test_over_http2_too(gateway: Gateway, case: str, length_known: bool) -> None:
    content_type, body, expected = REQUESTS[case]
    if len(body) > 60_000:
        body, expected = body.replace(b"x" * 2_990_000, b""), expected.replace(b"x" * 2_990_000, b"")
    gateway.upstream.received.clear()
    frames = [body[start : start + 10_000] for start in range(0, len(body), 10_000)]
    headers = {"content-type": content_type} | ({"content-length": str(len(body))} if length_known else {})
    answer = await send_http2(gateway.address, "/sanitized", frames, headers)
    assert (answer.status, answer.body) == (200, b'{"status":"SUCCEEDED"}')
    assert [received for _, received in gateway.upstream.received] == [expected]


@pytest.mark.parametrize("codec", ["gbk", "utf-8"])
async def test_a_document_inside_a_form_in_the_charset_that_the_form_names(gateway: Gateway, codec: str) -> None:
    def form(name: str, phone: str) -> bytes:
        document = f'{{"subject":"元宵","buyer":{{"phone":"{phone}"}}}}'
        fields = {"charset": codec, "buyer_name": name, "biz_content": document, "sign": "a+/="}
        return "&".join(f"{key}={quote_from_bytes(text.encode(codec), '*')}" for key, text in fields.items()).encode()

    exchange = await send(
        gateway, "/gateway.do", form("张三", "13812341234"), content_type=FORM, x_test_route="alipay-pay"
    )
    assert exchange.status == 200
    assert exchange.received == [form("***", "138****1234")]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, gzip.compress(b'{"phone":"13812341234"}')),
        (JSON, b'{"phone":"13812341234"'),
        ("application/xml", b"<phone>13812341234</phone>"),
        (MULTIPART, b"--other\r\n\r\n"),
    ],
    ids=["gzip", "cut off", "another format", "another boundary"],
)
async def test_what_cannot_be_read_goes_no_further(gateway: Gateway, content_type: str, body: bytes) -> None:
    exchange = await send(gateway, "/sanitized", body, content_type=content_type)
    assert (exchange.status, exchange.headers["x-pay-reason"]) == (503, "unavailable")
    assert exchange.received == []


async def test_a_compressed_request_that_nobody_reads_passes_raw(gateway: Gateway) -> None:
    body = gzip.compress(b"{}")
    assert (await send(gateway, "/observed", body, content_encoding="gzip")).received == [body]


async def test_where_nothing_is_decided_by_a_body_none_is_held_up(gateway: Gateway) -> None:
    """Its limit is 1,000 bytes: buffered, it would be answered 413; and the service sees it before its end."""
    seen = asyncio.Event()

    async def upstream(request: web.Request) -> web.Response:
        await request.content.readany()
        seen.set()
        return web.Response(body=str(len(await request.content.read())).encode())

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 500_000
        await asyncio.wait_for(seen.wait(), 10)
        yield b"y"

    gateway.upstream.unread["/bodiless"] = upstream
    exchange = await send(gateway, "/bodiless", body())
    assert exchange.status == 200
    assert int(exchange.body) > 0


# -- answers -----------------------------------------------------------------------------------------------------------

PIECES = [b'{"status":"SUCCEEDED", "ph', b'one":"138123412', b'34","note":"', b'x"}  ']
WHOLE = b'{"status":"SUCCEEDED", "phone":"138****1234","note":"***"}  '


async def _start(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": JSON})
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response


async def _slow(request: web.Request) -> web.StreamResponse:
    """Three seconds in pieces: longer than any message may take."""
    response = await _start(request)
    with contextlib.suppress(ConnectionResetError):
        for piece in PIECES:
            await response.write(piece)
            await asyncio.sleep(0.75)
        await response.write_eof()
    return response


BEGINNING_SEEN = asyncio.Event()
"""The caller has the first piece of an answer that will break off."""


async def _abort(request: web.Request) -> web.StreamResponse:
    response = await _start(request)
    await response.write(PIECES[0])
    if "x-waits" in request.headers:
        await asyncio.wait_for(BEGINNING_SEEN.wait(), 10)
    else:
        await asyncio.sleep(0.2)
    assert request.transport is not None
    request.transport.close()
    return response


async def _tagged(request: web.Request) -> web.StreamResponse:
    headers = {"etag": '"1"', "content-md5": "x", "digest": "x", "x-kept": "1", "cache-control": "no-store"}
    body = request.headers["x-answer"].encode()
    return web.Response(body=body, headers=headers | {"content-type": JSON})


def answer(note: str, size: int = 0) -> tuple[str, bytes]:
    """What the service answers (`x-answer`), and what its caller gets of it (padded by `x-pad-to`)."""
    service = f'{{"status":"SUCCEEDED","phone":"13812341234","note":"{note}"}}'
    caller = '{"status":"SUCCEEDED","phone":"138****1234","note":"***"}'
    return service, caller.encode() + b" " * max(0, size - len(service))


@pytest.mark.parametrize("note", ["123", "a longer note", "1"], ids=["equal", "shorter", "longer"])
@pytest.mark.parametrize("size", [0, 65_536, 65_537, 3_000_000])
@pytest.mark.parametrize("way", ["content-length", "chunked"])
async def test_an_answer_arrives_sanitised_whatever_its_length(
    gateway: Gateway, note: str, size: int, way: str
) -> None:
    service, expected = answer(note, size)
    headers = {"x_answer": service, "x_pad_to": str(size)} | ({"x_chunked": "1"} if way == "chunked" else {})
    exchange = await send(gateway, "/answered", b"{}", **headers)
    assert (exchange.status, exchange.body) == (200, expected)
    outcome = (await line(gateway, "access", exchange.request_id))["outcome"]
    assert outcome == ("succeeded" if size < 1_000_000 else "unknown")


async def test_an_answer_over_http2(gateway: Gateway) -> None:
    service, expected = answer("n", 3_000_000)
    headers = {"content-type": JSON, "x-answer": service, "x-pad-to": "3000000"}
    found = await send_http2(gateway.address, "/answered", [b"{}"], headers)
    assert (found.status, found.body) == (200, expected)


async def test_an_answer_that_comes_slowly(gateway: Gateway) -> None:
    exchange = await send(gateway, "/answered", b"{}", x_script="slow")
    assert (exchange.status, exchange.body) == (200, WHOLE)
    assert (await line(gateway, "access", exchange.request_id))["outcome"] == "succeeded"


async def test_one_stream_sanitises_both_ways(gateway: Gateway) -> None:
    service, expected = answer("n")
    exchange = await send(gateway, "/both", b'{"phone":"13812341234"}', x_answer=service)
    assert exchange.received == [b'{"phone":"138****1234"}']
    assert exchange.body == expected.replace(b'***"}', b'n"}')


@pytest.mark.parametrize(
    ("method", "status"), [("GET", "204"), ("GET", "304"), ("HEAD", "200"), ("GET", "200")], ids=str
)
async def test_an_answer_without_a_body(gateway: Gateway, method: str, status: str) -> None:
    headers = {"x_answer": "{}" if method == "HEAD" else "", "x_status": status}
    exchange = await send(gateway, "/lookup", None, method, **headers)
    assert (exchange.status, exchange.body) == (int(status), b"")


async def test_headers_about_the_old_body_go_with_it(gateway: Gateway) -> None:
    service, expected = answer("n")
    changed = await send(gateway, "/answered", b"{}", x_script="tagged", x_answer=service)
    assert changed.body == expected
    assert changed.headers["x-kept"] == "1"
    assert not {"etag", "content-md5", "digest"} & {name.lower() for name in changed.headers}
    same = await send(gateway, "/answered", b"{}", x_script="tagged", x_answer="{}")
    assert (same.body, same.headers["etag"]) == (b"{}", '"1"')


async def test_accept_encoding_stays_with_us_where_answers_are_read(gateway: Gateway) -> None:
    for path, expected in (("/answered", False), ("/observed", False), ("/bodiless", True)):
        gateway.upstream.unread.pop(path, None)
        exchange = await send(gateway, path, b"{}", accept_encoding="gzip")
        assert exchange.status == 200
        ((headers, _),) = gateway.upstream.received
        assert ("accept-encoding" in {name.lower() for name in headers}) is expected


# -- answers that are signed again -------------------------------------------------------------------------------------


def public_key(gateway: Gateway) -> RSAPublicKey:
    key = load_pem_private_key((gateway.folder / "signer.pem").read_bytes(), None).public_key()
    assert isinstance(key, RSAPublicKey)
    return key


@pytest.mark.parametrize(
    ("status", "service", "expected"),
    [
        ("200", '{"payer":{"openid":"o-1"}, "a":1}', b'{"payer":{"openid":"***"}, "a":1}'),
        ("200", '{"trade_state":"SUCCESS"}', b'{"trade_state":"SUCCESS"}'),
        ("404", '{"code":"ORDER_NOT_EXIST"}', b'{"code":"ORDER_NOT_EXIST"}'),
        ("204", "", b""),
    ],
)
async def test_wechat_answers_verify_by_the_gateways_key(
    gateway: Gateway, status: str, service: str, expected: bytes
) -> None:
    path = "/v3/pay/transactions/id/1"
    exchange = await send(gateway, path, None, "GET", x_status=status, x_answer=service)
    assert (exchange.status, exchange.body) == (int(status), expected)
    stamp, nonce = exchange.headers["wechatpay-timestamp"], exchange.headers["wechatpay-nonce"]
    text = f"{stamp}\n{nonce}\n".encode() + exchange.body + b"\n"
    signature = base64.b64decode(exchange.headers["wechatpay-signature"])
    public_key(gateway).verify(signature, text, padding.PKCS1v15(), hashes.SHA256())


async def test_alipay_answers_verify_by_the_gateways_key(gateway: Gateway) -> None:
    service = '{"alipay_trade_query_response":{"buyer_logon_id":"13812341234"},"sign":"theirs"}'
    kind = {"content_type": FORM, "x_answer_type": "text/html;charset=utf-8"}
    exchange = await send(gateway, "/gateway.do", b"a=b", x_test_route="alipay-query", x_answer=service, **kind)
    signed = b'{"buyer_logon_id":"138****1234"}'
    assert exchange.body.startswith(b'{"alipay_trade_query_response":' + signed + b',"sign":"')
    signature = base64.b64decode(json.loads(exchange.body)["sign"])
    public_key(gateway).verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    # Its neighbour behind the same match needs none of this: its answers are only watched.
    other = await send(gateway, "/gateway.do", b"a=b", x_test_route="alipay-pay", x_answer=service, **kind)
    assert other.body == service.encode()
    await line(gateway, "access", other.request_id)
    assert [found["event"] for found in gateway.log_lines("ext_proc", other.request_id)] == ["sanitized", "outcome"]


@pytest.mark.parametrize(
    ("service", "charset", "outcome", "fault"),
    [
        ('{"alipay_trade_pay_response":{"code":"10000","trade_no":"1"},"sign":"s"}', "utf-8", "succeeded", "none"),
        (
            '{"alipay_trade_pay_response":{"code":"40004","sub_code":"ACQ.BUYER_BALANCE_NOT_ENOUGH"},"sign":"s"}',
            "gbk",
            "refused",
            "payer",
        ),
        ("<html>502</html>", "utf-8", "unknown", "channel"),
    ],
)
async def test_what_alipay_says_about_money_and_whose_fault_it_is(
    gateway: Gateway, service: str, charset: str, outcome: str, fault: str
) -> None:
    kind = {"content_type": FORM, "x_answer_type": f"text/html;charset={charset}"}
    exchange = await send(gateway, "/gateway.do", b"a=b", x_test_route="alipay-pay", x_answer=service, **kind)
    assert exchange.body == service.encode()
    assert (await line(gateway, "access", exchange.request_id))["outcome"] == outcome
    await line(gateway, "ext_proc", exchange.request_id, event="outcome", outcome=outcome, fault=fault)


# -- what cannot be sanitised ------------------------------------------------------------------------------------------

UNREADABLE: list[dict[str, str]] = [
    {"x_answer": "<p>13812341234</p>", "x_answer_type": "text/html"},
    {"x_answer": '{"phone":"13812341234"'},
    {"x_answer": '{"phone":"13812341234"}', "x_pad_to": "5000000"},
    {"x_answer": '{"phone":"13812341234"}', "x_pad_to": "5000000", "x_chunked": "1"},
]


@pytest.mark.parametrize("headers", UNREADABLE, ids=["html", "cut off", "too long", "too long, and nobody knew"])
async def test_an_answer_that_cannot_be_read_is_withheld_or_passes(gateway: Gateway, headers: dict[str, str]) -> None:
    for path, status, code in (("/answered", 504, UNKNOWN), ("/lookup", 502, "answer_withheld")):
        exchange = await send(gateway, path, b"{}", **headers)
        assert (exchange.status, json.loads(exchange.body)["code"]) == (status, code)
        assert exchange.headers["x-pay-reason"] == code
        assert b"13812341234" not in exchange.body
        told = await line(gateway, "ext_proc", exchange.request_id, event="answered")
        assert "withheld" in str(told["steps"])
    exchange = await send(gateway, "/lenient", b"{}", **headers)
    expected = headers["x_answer"].encode().ljust(int(headers.get("x_pad_to", "0")))
    assert (exchange.status, exchange.body) == (200, expected)
    assert "13812341234" not in (gateway.folder / "ext_proc.log").read_text()


async def test_an_answer_that_the_service_breaks_off_is_unknown(gateway: Gateway) -> None:
    exchange = await send(gateway, "/answered", b"{}", x_script="abort")
    assert (exchange.status, json.loads(exchange.body)["code"]) == (502, UNKNOWN)
    await line(gateway, "ext_proc", exchange.request_id, event="outcome", outcome="unknown")


async def test_a_caller_that_goes_away_takes_nothing_with_it(gateway: Gateway) -> None:
    errors = error_lines(gateway)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await send(gateway, "/answered", b"{}", x_script="slow")
    service, expected = answer("n")
    assert (await send(gateway, "/answered", b"{}", x_answer=service)).body == expected
    async with asyncio.timeout(10):
        while "the answer ended before its body was seen" not in (gateway.folder / "ext_proc.log").read_text():
            await asyncio.sleep(0.05)
    assert error_lines(gateway) == errors


def error_lines(gateway: Gateway) -> list[str]:
    """ext_proc's complaints, except about answers that it withheld."""
    lines = (gateway.folder / "ext_proc.log").read_text().splitlines()
    return [found for found in lines if '"level": "error"' in found.lower() and '"answered"' not in found]


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/answered", "/both", "/lookup", "/gateway.do"])
async def test_a_refusal_passes_untouched(gateway: Gateway, path: str) -> None:
    exchange = await send(gateway, path, b"{}", x_test_decision="deny")
    assert (exchange.status, exchange.body) == (200, REFUSED)
    await line(gateway, "access", exchange.request_id)
    assert gateway.log_lines("ext_proc", exchange.request_id) == []


# -- without ext_proc --------------------------------------------------------------------------------------------------


async def begun(gateway: Gateway, path: str, script: str) -> asyncio.Task[Exchange]:
    """A request whose answer has begun to come, and been seen by ext_proc if it is to be."""
    task = asyncio.create_task(send(gateway, path, b"{}", x_script=script))
    async with asyncio.timeout(10):
        while not gateway.upstream.received:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    return task


@contextlib.asynccontextmanager
async def without_ext_proc(gateway: Gateway) -> AsyncIterator[None]:
    await gateway.kill_ext_proc()
    try:
        yield
    finally:
        await gateway.start_ext_proc()
        async with asyncio.timeout(15):
            while (await send(gateway, "/sanitized", b"{}")).status != 200:
                await asyncio.sleep(0.1)


async def test_ext_proc_dies_while_it_has_an_answer(gateway: Gateway) -> None:
    task = await begun(gateway, "/answered", "slow")
    async with without_ext_proc(gateway):
        exchange = await task
        assert (exchange.status, json.loads(exchange.body)["code"]) == (500, UNKNOWN)


async def test_ext_proc_freezes_while_it_has_an_answer(gateway: Gateway) -> None:
    """Envoy has no message timeout here: the route's idle timeout ends it, 11 s in this case."""
    rest = asyncio.Event()

    async def in_two(request: web.Request) -> web.StreamResponse:
        response = await _start(request)
        await response.write(PIECES[0])
        await rest.wait()
        await response.write(b"".join(PIECES[1:]))
        await response.write_eof()
        return response

    gateway.upstream.scripts["in two"] = in_two
    task = await begun(gateway, "/quick", "in two")
    with gateway.frozen_ext_proc():
        rest.set()
        exchange = await task
    assert (exchange.status, json.loads(exchange.body)["code"]) == (504, UNKNOWN)
    assert (await line(gateway, "access", exchange.request_id))["response_flags"] == "SI"
    service, expected = answer("n")
    assert (await send(gateway, "/answered", b"{}", x_answer=service)).body == expected


OBSERVED: dict[str, tuple[dict[str, str], bytes]] = {
    "small": ({"x_answer": '{"status":"SUCCEEDED"}'}, b'{"status":"SUCCEEDED"}'),
    "chunked": ({"x_answer": '{"status":"SUCCEEDED"}', "x_chunked": "1"}, b'{"status":"SUCCEEDED"}'),
    "large": ({"x_answer": "{}", "x_pad_to": "3000000"}, b"{}".ljust(3_000_000)),
    "large, chunked": ({"x_answer": "{}", "x_pad_to": "3000000", "x_chunked": "1"}, b"{}".ljust(3_000_000)),
    "slow": ({"x_script": "slow"}, b"".join(PIECES)),
    "empty": ({"x_answer": ""}, b""),
    "error": ({"x_answer": "{", "x_status": "500"}, b"{"),
}


@pytest.mark.parametrize("state", ["well", "dead", "frozen"])
async def test_watching_never_loses_nor_fails_an_answer(gateway: Gateway, state: str) -> None:
    async def check() -> None:
        for name, (headers, body) in OBSERVED.items():
            exchange = await send(gateway, "/observed", b"{}", **headers)
            assert (name, exchange.status, exchange.body) == (name, int(headers.get("x_status", "200")), body)

    if state == "dead":
        async with without_ext_proc(gateway):
            await check()
    elif state == "frozen":
        with gateway.frozen_ext_proc():
            await check()
    else:
        await check()


async def test_an_answer_that_breaks_off_breaks_off_for_the_caller_where_it_is_only_watched(gateway: Gateway) -> None:
    async with aiohttp.ClientSession() as session:
        BEGINNING_SEEN.clear()
        headers = {"x-script": "abort", "x-waits": "for the caller"}
        async with session.post(gateway.address + "/observed", data=b"{}", headers=headers) as found:
            assert found.status == 200
            assert await found.content.readany() == PIECES[0]
            BEGINNING_SEEN.set()
            with pytest.raises(aiohttp.ClientPayloadError):
                await found.read()


async def test_without_ext_proc_nothing_leaks_and_refusals_are_refusals(gateway: Gateway) -> None:
    service, _ = answer("n")
    async with without_ext_proc(gateway):
        for path in ("/answered", "/both"):
            exchange = await send(gateway, path, b"{}", x_answer=service)
            assert (exchange.status, json.loads(exchange.body)["code"]) == (500, UNKNOWN)
        exchange = await send(gateway, "/lookup", b"{}", x_answer=service)
        assert (exchange.status, json.loads(exchange.body)["code"]) == (500, "unavailable")
        exchange = await send(gateway, "/answered", b"{}", x_test_decision="deny")
        assert (exchange.status, exchange.body) == (200, REFUSED)


async def test_many_at_once_do_not_mix(gateway: Gateway) -> None:
    async def one(number: int) -> None:
        service = f'{{"n":{number},"phone":"13812341234"}}'
        size = 10 ** (number % 6)
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{gateway.address}/answered",
                data=b"{}",
                headers={"content-type": JSON, "x-answer": service, "x-pad-to": str(size)},
            ) as found,
        ):
            body = await found.read()
            assert body == service.replace("13812341234", "138****1234").encode().ljust(size)

    await asyncio.gather(*(one(number) for number in range(100)))
