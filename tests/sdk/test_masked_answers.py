"""Masked answers that the published SDKs verify: whatever shape they had, and through the real Envoy.

The SDKs verify as they always do. What they trust here is the gateway's own key, which no upstream has.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from wechatpayv3 import WeChatPay, WeChatPayType

from paymesh.cli.demo.alipay_signing import AlipayMerchant, AlipayV3Merchant, cert_sn
from paymesh.cli.demo.signing import load_key
from paymesh.cli.demo.world import MCHID, SERIAL_NO
from paymesh.cli.samples.alipay_trade import parameters_of
from paymesh.cli.stack.demo_certificates import authority, issue, public_pem
from paymesh.cli.stack.demo_keys import ensure_demo_keys
from paymesh.cli.stack.local_stack import LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from paymesh.payments.answer_signing import sign_answer
from paymesh.payments.policy.compiled import Protocol
from paymesh.payments.signers import Signer
from tests.sdk.alipay_merchants import (
    APP_ID,
    CERTIFICATE_APP_ID,
    MERCHANTS,
    SdkMerchant,
    content,
    order,
    order_number,
    precreate,
    query,
)
from tests.sdk.demo_merchants import Answer, send, v3

POLICY = Path(__file__).resolve().parent / "masking_policy"
APP_FILES = ("alipay_app.pem", "alipay_app.crt", "alipay_root.crt")
KEY_ID = "PUB_KEY_ID_0000000000000000009"
HIDDEN = {"buyer_logon_id": "138****1234", "buyer_user_name": "李**", "body": "回执寄 l***@example.com"}
in_one_loop = pytest.mark.asyncio(loop_scope="session")


def masking_keys(run_dir: Path) -> Path:
    """The demo's keys, and `answers`: what the gateway signs answers with."""
    keys, _ = ensure_demo_keys(run_dir)
    answers = issue(authority("paymesh tests"), "gateway of the tests")
    (keys / "answers.pem").write_bytes(answers.key_pem)
    (keys / "answers.crt").write_bytes(answers.certificate_pem)
    (keys / "answers_pub.pem").write_bytes(public_pem(answers.key))
    return keys


def trusting(sdk: str, keys: Path, signer: str = "answers") -> SdkMerchant:
    """A merchant that trusts the key `signer` as the provider's."""
    merchant = MERCHANTS[sdk](keys)
    certificates = sdk == "by certificate"
    name, file = ("alipay_certificate", ".crt") if certificates else ("alipay_public_key", "_pub.pem")
    return replace(merchant, keys={**merchant.keys, name: (keys / f"{signer}{file}").read_text()})


# -- every shape of an answer ------------------------------------------------------------------------------------------

INSIDE = '{"code":"10000","msg":"Success","buyer_user_name":"李**","nested":{"sign":"x"}}'
SHAPES = {
    "as Alipay writes it": f'{{"@":{INSIDE},"sign":"b2xk"}}',
    "not signed": f'{{"@":{INSIDE}}}',
    "signed before": f'{{"sign":"b2xk","@":{INSIDE}}}',
    "white space": f'{{\n  "@" : {INSIDE} ,\n  "sign" : "b2xk"\n}}\n',
    "another certificate": f'{{"@":{INSIDE},"alipay_cert_sn":"00","sign":"b2xk"}}',
    "another certificate before": f'{{"alipay_cert_sn":"00","sign":"b2xk","@":{INSIDE}}}',
    "another certificate, not signed": f'{{"@":{INSIDE},"alipay_cert_sn":"00"}}',
}
NOT_FOR_OFFICIAL = {"another certificate"}
"""It looks for `},"sign"`, so nothing may stand between; Alipay itself writes certificate mode's answers so."""


def shapes_for(sdk: str) -> list[str]:
    return [name for name in SHAPES if sdk != "official" or name not in NOT_FOR_OFFICIAL]


def not_verified(answer: Mapping[str, Any]) -> bool:
    """Whether the SDK refused the answer's signature, and nothing else."""
    return answer.get("exception") == "AliPayValidationError" or "sign verify failed" in answer.get("text", "")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return masking_keys(tmp_path_factory.mktemp("shapes"))


@pytest.fixture
async def shapes(keys: Path) -> AsyncIterator[TestServer]:
    """Answers each query with the shape that `out_trade_no` names, signed again."""
    answers = Signer(load_key(keys / "answers.pem"), "ours")

    async def gateway(request: web.Request) -> web.Response:
        parameters = parameters_of(request.query_string, await request.read())
        number = json.loads(parameters["biz_content"])["out_trade_no"]
        charset, key = parameters["charset"], parameters["method"].replace(".", "_") + "_response"
        body, content_type = SHAPES[number].replace("@", key).encode(charset), f"text/html;charset={charset}"
        found = sign_answer(Protocol.ALIPAY_V2, answers, body, content_type, 1_800_000_000, "nonce")
        return web.Response(body=found.body, headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_route("*", "/gateway.do", gateway)
    server = TestServer(app)
    await server.start_server()
    yield server
    await server.close()


@pytest.mark.parametrize("sdk", MERCHANTS)
async def test_each_shape_is_verified_by_the_sdk(shapes: TestServer, keys: Path, sdk: str) -> None:
    names = shapes_for(sdk)
    answers = await trusting(sdk, keys).call(str(shapes.make_url("/gateway.do")), *map(query, names))
    assert len(answers) == len(names) > 0
    for name, answer in zip(names, answers, strict=True):
        assert content(answer)["buyer_user_name"] == "李**", name


async def test_each_shape_in_gbk(shapes: TestServer, keys: Path) -> None:
    names = shapes_for("official")
    calls = [{**query(name), "charset": "gbk"} for name in names]
    answers = await trusting("official", keys).call(str(shapes.make_url("/gateway.do")), *calls)
    assert [content(answer)["buyer_user_name"] for answer in answers] == ["李**"] * len(names)


@pytest.mark.parametrize("sdk", MERCHANTS)
async def test_no_shape_is_verified_by_an_sdk_that_trusts_another_key(shapes: TestServer, keys: Path, sdk: str) -> None:
    url = str(shapes.make_url("/gateway.do"))
    names = shapes_for(sdk)
    answers = await trusting(sdk, keys, "alipay_platform").call(url, *map(query, names))
    assert [not_verified(answer) for answer in answers] == [True] * len(names), answers


# -- through the gateway -----------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def masked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """A running gateway that masks and signs again."""
    run_dir = tmp_path_factory.mktemp("masked")
    masking_keys(run_dir)
    options = StackOptions(policy=(POLICY,), run_dir=run_dir, ports=Ports.random())
    async with LocalStack(options, say=lambda _: None) as running:
        await running.ready()
        yield running


async def through(masked: LocalStack, sdk: str, *calls: Mapping[str, Any], key: str = "answers") -> list[Any]:
    url = f"http://{masked.ports.address('gateway')}/gateway.do"
    return await trusting(sdk, masked.keys, key).call(url, *calls)


def hidden(found: Mapping[str, Any]) -> dict[str, str]:
    assert "buyer_user_id" not in found
    return {name: found[name] for name in HIDDEN}


@pytest.mark.data_plane
@in_one_loop
@pytest.mark.parametrize("sdk", MERCHANTS)
async def test_alipays_sdks_read_masked_values_and_verify_them(masked: LocalStack, sdk: str) -> None:
    number = order_number()
    made, found = map(content, await through(masked, sdk, precreate(number), query(number)))
    assert made["qr_code"].startswith("https://qr.alipay.")
    assert hidden(found) == HIDDEN
    assert (found["out_trade_no"], found["total_amount"], found["trade_status"]) == (number, "88.88", "WAIT_BUYER_PAY")


@pytest.mark.data_plane
@in_one_loop
async def test_alipays_sdk_reads_masked_values_in_gbk(masked: LocalStack) -> None:
    number = order_number()
    calls = [{**call, "charset": "gbk"} for call in (precreate(number), query(number))]
    assert hidden(content((await through(masked, "official", *calls))[1])) == HIDDEN


@pytest.mark.data_plane
@in_one_loop
@pytest.mark.parametrize("sdk", MERCHANTS)
async def test_alipays_sdks_refuse_them_where_another_key_is_trusted(masked: LocalStack, sdk: str) -> None:
    """Of the platform behind the gateway, too: it is the gateway that signed, and the verification is a real one."""
    [answer] = await through(masked, sdk, query(order_number()), key="alipay_platform")
    assert not_verified(answer), answer


@pytest.mark.data_plane
@in_one_loop
@pytest.mark.parametrize("sdk", MERCHANTS)
async def test_what_the_service_refuses_is_signed_by_the_same_key(masked: LocalStack, sdk: str) -> None:
    [answer] = await through(masked, sdk, query(order_number()))
    assert content(answer)["sub_code"] == "ACQ.TRADE_NOT_EXIST"


@pytest.mark.data_plane
@in_one_loop
async def test_outside_the_masked_values_the_answer_is_the_services_own(masked: LocalStack) -> None:
    """Byte for byte, but for the values, the signature and the name of the key."""
    number = order_number()
    await through(masked, "by certificate", precreate(number))
    merchant = AlipayMerchant.from_certificates(CERTIFICATE_APP_ID, *(masked.keys / name for name in APP_FILES))
    request = merchant.request("alipay.trade.query", {"out_trade_no": number}, place="query", http_method="GET")
    # What the service says, asked directly; and what must become of it.
    asked = replace(request, headers={**request.headers, "x-pay-merchant": "shop"})
    _, _, theirs = await send(masked.ports.address("trade_v1"), asked)
    signed = Signer(load_key(masked.keys / "answers.pem"), serial(masked.keys))
    for name, value in {"13812341234": "138****1234", "李雷": "李**", "lilei@": "l***@"}.items():
        assert theirs.count(name.encode()) == 1
        theirs = theirs.replace(name.encode(), value.encode())
    theirs = theirs.replace(b'"buyer_user_id":"2088102146225135",', b"")
    expected = sign_answer(Protocol.ALIPAY_V2, signed, theirs, None, 1, "n").body
    assert (await send(masked.ports.address("gateway"), request))[2] == expected


@pytest.mark.data_plane
@in_one_loop
async def test_alipay_v3_is_signed_by_headers(masked: LocalStack) -> None:
    merchant, number = AlipayV3Merchant.from_file(APP_ID, masked.keys / "alipay_merchant.pem"), order_number()
    address = masked.ports.address("gateway")
    made = await send(address, v3(merchant, "precreate", order(number)))
    found = await send(address, v3(merchant, "query", {"out_trade_no": number}))
    unknown = await send(address, v3(merchant, "query", {"out_trade_no": order_number()}))
    assert [answer[0] for answer in (made, found, unknown)] == [200, 200, 400]
    assert hidden(json.loads(found[2])) == HIDDEN
    for answer in (made, found, unknown):
        verify_v3(masked.keys, answer, "answers")
        assert answer[1]["alipay-sn"] == serial(masked.keys)
        with pytest.raises(InvalidSignature):
            verify_v3(masked.keys, answer, "alipay_platform")


def verify_v3(keys: Path, answer: Answer, signer: str) -> None:
    """Raises InvalidSignature unless `signer` signed the answer."""
    _, headers, body = answer
    text = f"{headers['alipay-timestamp']}\n{headers['alipay-nonce']}\n".encode() + body + b"\n"
    key = load_key(keys / f"{signer}.pem").public_key()
    key.verify(base64.b64decode(headers["alipay-signature"]), text, PKCS1v15(), SHA256())


def serial(keys: Path) -> str:
    return cert_sn((keys / "answers.crt").read_bytes())


@pytest.fixture
def bookshop(masked: LocalStack) -> WeChatPay:
    """The SDK in public-key mode, trusting the gateway's key."""
    sdk = WeChatPay(
        wechatpay_type=WeChatPayType.NATIVE,
        mchid=MCHID,
        private_key=(masked.keys / "wechat_merchant.pem").read_text(),
        cert_serial_no=SERIAL_NO,
        apiv3_key=(masked.keys / "wechat_apiv3.key").read_text(),
        appid="wx8888888888888888",
        notify_url="https://merchant.example/notify",
        public_key=(masked.keys / "answers_pub.pem").read_text(),
        public_key_id=KEY_ID,
        timeout=(5, 20),
    )
    sdk._core._gate_way = f"http://{masked.ports.address('gateway')}"
    return sdk


@pytest.mark.data_plane
@in_one_loop
async def test_wechats_sdk_reads_masked_values_and_verifies_them(masked: LocalStack, bookshop: WeChatPay) -> None:
    number = order_number()
    made, _ = await asyncio.to_thread(
        bookshop.pay, description="茶叶", out_trade_no=number, amount={"total": 100, "currency": "CNY"}
    )
    status, body = await asyncio.to_thread(bookshop.query, out_trade_no=number)
    assert (made, status) == (200, 200), body
    found = json.loads(body)
    assert (found["payer"], found["attach"]) == ({"openid": "***"}, "送货前请致电 138****1234")
    assert (found["out_trade_no"], found["amount"]) == (number, {"total": 100, "currency": "CNY"})
    # The verification was a real one: whoever trusts the platform behind the gateway refuses the same answer.
    bookshop._core._public_key = load_key(masked.keys / "wechat_platform.pem").public_key()
    with pytest.raises(Exception, match="failed to verify the signature"):
        await asyncio.to_thread(bookshop.query, out_trade_no=number)
