"""What each provider has of its own: products, certificates, what a payer's device is told. Against its simulator."""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from paymesh.cli.demo.alipay_signing import AlipayProvider, cert_sn, root_cert_sn
from paymesh.cli.demo.rsa_signing import load_key
from paymesh.cli.demo.unionpay_signing import UnionpayProvider, write_answer
from paymesh.cli.samples.merchants import CERTIFIED_APP_ID
from paymesh.cli.stack.demo_certificates import UNIONPAY_NAME, authority, issue
from paymesh.payments.adapters.contract import (
    ChannelIdentity,
    Expected,
    GenericOrder,
    GenericQuery,
    Stamp,
    UpstreamRequest,
)
from paymesh.payments.adapters.generic_order import read_order, read_refund
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.denial import Denial
from paymesh.payments.fields.facts import OrderFacts
from paymesh.payments.money import Money
from paymesh.payments.outcome import Outcome
from paymesh.payments.policy.compiled import Operation
from paymesh.payments.secrets import Secret
from paymesh.payments.signers import Signer
from tests.channels.channels import CHANNELS, provider_key
from tests.channels.harness import Heard, Provider, running, stamp


@pytest.fixture
async def alipay(demo_keys: Path) -> AsyncIterator[Provider]:
    async with running(CHANNELS["alipay_v2"], demo_keys) as found:
        yield found


@pytest.fixture
async def wechat(demo_keys: Path) -> AsyncIterator[Provider]:
    async with running(CHANNELS["wechat_v3"], demo_keys) as found:
        yield found


@pytest.fixture
async def unionpay(demo_keys: Path) -> AsyncIterator[Provider]:
    async with running(CHANNELS["unionpay"], demo_keys) as found:
        yield found


def verifies(key_file: Path, signature: str, text: bytes) -> None:
    key = serialization.load_pem_public_key(key_file.read_bytes())
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(base64.b64decode(signature), text, padding.PKCS1v15(), SHA256())


# -- Alipay -----------------------------------------------------------------------------------------------------------


async def test_alipay_takes_the_money_at_once_by_a_scanned_code(alipay: Provider) -> None:
    order = alipay.order(product="auth_code", auth_code=Secret(b"287612345678901234"))
    answers = [await alipay.pay(order) for _ in range(2)]
    assert [answer.outcome for answer in answers] == [Outcome.SUCCEEDED] * 2
    assert answers[0].document["channel_order_no"] == answers[1].document["channel_order_no"]
    (entry,) = await alipay.books(order)
    assert entry["paid_times"] == 1


@pytest.mark.parametrize("code", [None, b"", b"12345678901234567", b"28761234567890123x"])
async def test_alipay_needs_a_code_to_scan(alipay: Provider, code: bytes | None) -> None:
    order = alipay.order(product="auth_code", auth_code=None if code is None else Secret(code))
    (problem,) = alipay.adapter.problems(order, alipay.identity)
    assert problem.startswith("/auth_code: is required for this product")


async def test_alipay_in_certificate_mode(alipay: Provider, demo_keys: Path) -> None:
    serial = cert_sn((demo_keys / "alipay_platform.crt").read_bytes())
    identity = ChannelIdentity(
        account=CERTIFIED_APP_ID,
        signer=Signer(load_key(demo_keys / "alipay_app.pem"), cert_sn((demo_keys / "alipay_app.crt").read_bytes())),
        provider_keys={serial: (provider_key(demo_keys / "alipay_platform_pub.pem"),)},
        root_serial=root_cert_sn((demo_keys / "alipay_root.crt").read_bytes()),
    )
    assert alipay.adapter.identity_problems(identity) == ()
    order = alipay.order()
    heard = await alipay.send(alipay.adapter.write_pay(order, identity, stamp()))
    assert json.loads(heard.body)["alipay_cert_sn"] == serial
    assert alipay.read(alipay.expected(order), heard, identity).outcome is Outcome.ACCEPTED
    another = dataclasses.replace(identity, provider_keys={"0" * 32: identity.provider_keys[serial]})
    assert alipay.read(alipay.expected(order), heard, another).outcome is Outcome.UNKNOWN


async def test_alipays_white_space_is_signed_too(alipay: Provider, demo_keys: Path) -> None:
    provider = AlipayProvider.from_folder(demo_keys)
    expected = Expected(Operation.QUERY, "c", "A1", Money(100, "CNY"))
    told = {"code": "10000", "msg": "Success", "out_trade_no": "A1", "trade_status": "TRADE_SUCCESS"}
    body = provider.answer("alipay.trade.query", {**told, "total_amount": "1.00"})
    assert alipay.read(expected, Heard(200, {}, body)).outcome is Outcome.SUCCEEDED
    for changed in (
        body.replace(b'":"10000"', b'": "10000"'),
        body.replace(b'{"alipay', b'{"error_response":{"code":"10000"},"alipay'),
        body.replace(b"trade_query", b"trade_refund"),
        body[:-1] + b',"sign":"x"}',
    ):
        assert alipay.read(expected, Heard(200, {}, changed)).outcome is Outcome.UNKNOWN
    # A genuine answer to another method, or to no order at all, is none to this call.
    for method, document in (
        ("alipay.trade.refund", {**told, "fund_change": "Y"}),
        ("alipay.trade.query", {name: value for name, value in told.items() if name != "out_trade_no"}),
    ):
        heard = Heard(200, {}, provider.answer(method, document))
        assert alipay.read(expected, heard).outcome is Outcome.UNKNOWN


# -- WeChat Pay -------------------------------------------------------------------------------------------------------


async def test_wechat_jsapi_tells_what_the_payers_page_calls_up(wechat: Provider, demo_keys: Path) -> None:
    order = wechat.order(product="jsapi", payer_id=Secret(b"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"))
    told = (await wechat.pay(order)).document["pay_parameters"]
    assert isinstance(told, dict)
    assert told["package"].startswith("prepay_id=wx")
    text = f"{told['appId']}\n{told['timeStamp']}\n{told['nonceStr']}\n{told['package']}\n"
    verifies(demo_keys / "wechat_merchant_pub.pem", told["paySign"], text.encode())


async def test_wechat_app_tells_what_the_payers_app_calls_up(wechat: Provider, demo_keys: Path) -> None:
    told = (await wechat.pay(wechat.order(product="app"))).document["pay_parameters"]
    assert isinstance(told, dict)
    text = f"{told['appid']}\n{told['timestamp']}\n{told['noncestr']}\n{told['prepayid']}\n"
    verifies(demo_keys / "wechat_merchant_pub.pem", told["sign"], text.encode())


async def test_wechat_h5_tells_an_address(wechat: Provider) -> None:
    answer = await wechat.pay(wechat.order(product="h5"))
    assert str(answer.document["h5_url"]).startswith("https://")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"product": "jsapi"}, "/payer/id"),
        ({"product": "h5", "client_ip": ""}, "client_ip"),
        ({"subject": ""}, "/subject"),
        ({"subject": "茶" * 128}, "/subject"),
        ({"order_no": "12345"}, "/order_no"),
        ({"order_no": "1" * 33}, "/order_no"),
    ],
)
def test_wechat_says_what_a_product_needs(demo_keys: Path, changed: dict[str, object], field: str) -> None:
    channel = CHANNELS["wechat_v3"]
    order = dataclasses.replace(_order(), **changed)  # type: ignore[arg-type]
    (problem,) = channel.adapter.problems(order, channel.identity(demo_keys))
    assert problem.startswith(f"{field}: ")


async def test_wechat_numbers_are_signed_as_they_are_sent(wechat: Provider) -> None:
    order = wechat.order(order_no=f"a|b*c-{secrets.token_hex(6)}")
    await wechat.pay(order)
    await wechat.payer_pays(order)
    assert (await wechat.query(order)).outcome is Outcome.SUCCEEDED


async def test_wechats_old_answers_are_not_believed(wechat: Provider) -> None:
    order = wechat.order()
    heard = await wechat.send(wechat.adapter.write_pay(order, wechat.identity, stamp()))
    for late_s, outcome in ((0, Outcome.ACCEPTED), (290, Outcome.ACCEPTED), (310, Outcome.UNKNOWN)):
        later = Stamp(int(heard.headers["wechatpay-timestamp"]) + late_s, "n")
        found = wechat.adapter.read_answer(
            wechat.expected(order), heard.status, heard.headers, heard.body, wechat.identity, later
        )
        assert found.outcome is outcome, late_s


# -- UnionPay ---------------------------------------------------------------------------------------------------------


async def test_unionpays_app_is_told_a_number(unionpay: Provider) -> None:
    answer = await unionpay.pay(unionpay.order(product="app"))
    assert answer.document["pay_parameters"].keys() == {"tn"}  # type: ignore[attr-defined]


async def test_unionpay_takes_a_scanned_code_and_says_so_when_asked(unionpay: Provider) -> None:
    order = unionpay.order(product="auth_code", auth_code=Secret(b"6212345678901234567"))
    assert (await unionpay.pay(order)).outcome is Outcome.ACCEPTED
    assert (await unionpay.query(order)).outcome is Outcome.SUCCEEDED


async def test_a_repeat_at_unionpay_carries_the_first_attempts_time(unionpay: Provider) -> None:
    order = unionpay.order()
    written = [unionpay.adapter.write_pay(order, unionpay.identity, Stamp(at, "n")) for at in (1, 2_000_000_000)]
    query = unionpay.adapter.write_query(unionpay.query_of(order), unionpay.identity, stamp())
    times = {dict(parse_qsl(request.body.decode()))["txnTime"] for request in (*written, query)}  # type: ignore[union-attr]
    assert len(times) == 1


def test_unionpay_needs_its_own_number_of_a_payment(demo_keys: Path) -> None:
    channel = CHANNELS["unionpay"]
    facts = OrderFacts(order_no="R20261122220000", money=Money(100, "CNY"), original_order_no="20261122220000")
    refund = read_refund({}, facts, 0, Money(100, "CNY"))
    assert not isinstance(refund, Denial)
    written = channel.adapter.write_refund(refund, channel.identity(demo_keys), stamp())
    assert isinstance(written, Denial)
    assert written.told[0].startswith("channel_order_no: ")


async def test_a_certificate_of_another_name_or_authority_is_not_unionpays(unionpay: Provider, demo_keys: Path) -> None:
    told = {"respCode": "00", "origRespCode": "00", "orderId": "A2345678", "merId": unionpay.identity.account}
    expected = Expected(Operation.QUERY, "c", "A2345678", Money(100, "CNY"))
    merchants = UnionpayProvider.from_folder(demo_keys, "unionpay_merchant")
    strangers = issue(authority("another authority"), UNIONPAY_NAME)
    keys = {
        UnionpayProvider.from_folder(demo_keys): Outcome.SUCCEEDED,
        merchants: Outcome.UNKNOWN,
        UnionpayProvider(strangers.key, strangers.certificate_pem.decode()): Outcome.UNKNOWN,
    }
    for provider, outcome in keys.items():
        body = write_answer(provider.form({**told, "txnType": "00", "txnAmt": "100"}))
        assert unionpay.read(expected, Heard(200, {}, body)).outcome is outcome


@pytest.mark.parametrize("reserved", ["x&respCode=00", "x&txnAmt=1", "{x&orderId=B2345678}"])
async def test_an_answer_that_can_be_cut_in_two_ways_is_not_believed(
    unionpay: Provider, demo_keys: Path, reserved: str
) -> None:
    told = {"respCode": "00", "origRespCode": "00", "orderId": "A2345678", "merId": unionpay.identity.account}
    fields = {**told, "txnType": "00", "txnAmt": "100", "reqReserved": reserved}
    body = write_answer(UnionpayProvider.from_folder(demo_keys).form(fields))
    expected = Expected(Operation.QUERY, "c", "A2345678", Money(100, "CNY"))
    assert unionpay.read(expected, Heard(200, {}, body)).outcome is Outcome.UNKNOWN


# -- the generic merchant's JSON -------------------------------------------------------------------------------------


def _order(**changed: object) -> GenericOrder:
    facts = OrderFacts(order_no="20261122220000", money=Money(100, "CNY"), product="qr")
    order = read_order({"subject": "茶", **changed}, facts, int(time.time()), "192.0.2.1")
    assert not isinstance(order, Denial), order.detail
    return order


def test_a_generic_order_is_read() -> None:
    order = _order(
        expires_at="2026-11-22T22:30:00+08:00",
        auth_code="287612345678901234",
        payer={"id": "o1"},
        notify_url="https://m",
    )
    assert (order.expires_at_s, order.notify_url) == (1_795_357_800, "https://m")
    assert order.auth_code == Secret(b"287612345678901234")
    assert "2876" not in repr(order)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"subject": 1}, "/subject"),
        ({"subject": "a\nb"}, "/subject"),
        ({"subject": "x" * 513}, "/subject"),
        ({"auth_code": ["1"]}, "/auth_code"),
        ({"payer": {"id": 7}}, "/payer/id"),
        ({"expires_at": "2026-11-22T22:30:00"}, "/expires_at"),
        ({"expires_at": "soon"}, "/expires_at"),
    ],
)
def test_a_member_of_the_wrong_kind_is_named(document: dict[str, object], field: str) -> None:
    found = read_order(document, OrderFacts("12345678", Money(1, "CNY"), "qr"), 0, "")
    assert isinstance(found, Denial)
    assert found.told[0].startswith(f"{field}: ")


def test_a_refund_of_no_order_is_refused() -> None:
    found = read_refund({}, OrderFacts("12345678", Money(1, "CNY")), 0, None)
    assert isinstance(found, Denial)
    assert found.told == ("the payment's order number: is required",)


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_an_orders_end_is_told_in_the_providers_own_time(name: str, demo_keys: Path) -> None:
    channel = CHANNELS[name]
    order = _order(expires_at="2026-11-22T14:30:00+00:00")
    written = channel.adapter.write_pay(order, channel.identity(demo_keys), stamp())
    assert isinstance(written, UpstreamRequest)
    said = dict(parse_qsl(written.body.decode())) if written.body[:1] != b"{" else {}
    found = said.get("payTimeout") or json.loads(said.get("biz_content") or written.body)["time_expire"]
    assert found in ("20261122223000", "2026-11-22 22:30:00", "2026-11-22T22:30:00+08:00")


async def test_what_goes_to_the_provider_is_strict_json(wechat: Provider) -> None:
    written = wechat.adapter.write_pay(wechat.order(subject='"\\ 茶 </script>'), wechat.identity, stamp())
    assert isinstance(written, UpstreamRequest)
    assert parse_json(written.body, object_only=True).value["description"] == '"\\ 茶 </script>'  # type: ignore[index]


async def test_a_simulator_fails_for_its_share(alipay: Provider) -> None:
    await alipay.fails("error", 0.3)
    query = GenericQuery("12345678", 0)
    request = alipay.adapter.write_query(query, alipay.identity, stamp())
    statuses = [(await alipay.send(request)).status for _ in range(20)]
    assert statuses.count(500) == 6
    async with aiohttp.ClientSession() as session:
        answer = await session.post(f"{alipay._url}/_sample/faults", json={"kind": "explode"})
        assert answer.status == 400
