"""UnionPay, Alipay v3 and Alipay's notifications through the real Envoy, by the demo's own merchants and providers."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

import pytest

from paymesh.cli.demo.alipay_signing import AlipayMerchant, AlipayProvider, AlipayV3Merchant
from paymesh.cli.demo.signed_request import SignedRequest
from paymesh.cli.demo.signing import load_key
from paymesh.cli.demo.unionpay_signing import QUERY, UnionpayMerchant, UnionpayProvider, read_answer, signed_11
from paymesh.cli.stack.local_stack import LocalStack
from tests.sdk.alipay_merchants import APP_ID, CERTIFICATE_APP_ID, order, order_number
from tests.sdk.demo_merchants import (
    MER_ID,
    SECURE_KEY_MER_ID,
    Answer,
    alipay_signed,
    send,
    unionpay_merchant,
    unionpay_number,
    unionpay_signed,
    v3,
)

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="session")]
SELLER_ID = "2088100000000000"


@pytest.fixture
def rest(shops: LocalStack) -> AlipayV3Merchant:
    return AlipayV3Merchant.from_file(APP_ID, shops.keys / "alipay_merchant.pem")


async def ask(shops: LocalStack, request: SignedRequest) -> Answer:
    return await send(shops.ports.address("gateway"), request)


async def test_alipay_v3_order_query_close(shops: LocalStack, rest: AlipayV3Merchant) -> None:
    number = order_number()
    states = []
    for operation, fields in (
        ("precreate", order(number)),
        ("query", {"out_trade_no": number}),
        ("close", {"out_trade_no": number}),
    ):
        status, headers, body = await ask(shops, v3(rest, operation, fields))
        assert status == 200, body
        alipay_signed(shops.keys, headers, body)
        states.append(json.loads(body).get("trade_status"))
    assert states == [None, "WAIT_BUYER_PAY", None]


async def test_alipay_v3_in_certificate_mode_for_another_app(shops: LocalStack) -> None:
    """`alipay-app-auth-token` is part of what is signed: with it added afterwards the signature is wrong."""
    keys = shops.keys
    merchant = AlipayV3Merchant.from_certificates(
        CERTIFICATE_APP_ID, keys / "alipay_app.pem", keys / "alipay_app.crt", keys / "alipay_root.crt"
    )
    request = v3(merchant, "precreate", order(order_number()), app_auth_token="202611BBtoken")
    assert (await ask(shops, request))[0] == 200
    plain = v3(merchant, "precreate", order(order_number()))
    added = replace(plain, headers={**plain.headers, "alipay-app-auth-token": "202611BBtoken"})
    assert (await ask(shops, added))[0] == 401


async def test_alipay_v3_multipart(shops: LocalStack, rest: AlipayV3Merchant) -> None:
    data = json.dumps(order(order_number()), ensure_ascii=False).encode()
    request = rest.multipart("/v3/alipay/trade/precreate", data, {"receipt": b"\x00\xff--\r\n"})
    status, headers, body = await ask(shops, request)
    assert status == 200, body
    alipay_signed(shops.keys, headers, body)


@pytest.mark.parametrize("wrong", ["key", "nonce", "time", "body"])
async def test_alipay_v3_refusals(shops: LocalStack, rest: AlipayV3Merchant, wrong: str) -> None:
    other = replace(rest, key=load_key(shops.keys / "wechat_merchant.pem"))
    number = order_number()
    request = {
        "key": v3(other, "precreate", order(number)),
        "nonce": v3(rest, "precreate", order(number), nonce=f"n{number}"),
        "time": v3(rest, "precreate", order(number), at_ms=1_700_000_000_000),
        "body": v3(rest, "precreate", order(number)),
    }[wrong]
    if wrong == "nonce":
        assert (await ask(shops, request))[0] == 200
    if wrong == "body":
        request = replace(request, body=request.body.replace(b"88.88", b"00.01"))
    status, headers, body = await ask(shops, request)
    assert (status, set(json.loads(body))) == (401, {"code", "message"})
    expected = {"nonce": "nonce_replayed", "time": "timestamp_expired"}.get(wrong, "credential_invalid")
    assert headers["x-pay-reason"] == expected


@pytest.mark.parametrize("place", ["form", "query", "split"])
@pytest.mark.parametrize("charset", ["utf-8", "gbk"])
async def test_alipay_v2_wherever_the_parameters_stand(shops: LocalStack, place: str, charset: str) -> None:
    merchant, number = AlipayMerchant.from_file(APP_ID, shops.keys / "alipay_merchant.pem"), order_number()
    request = merchant.request("alipay.trade.precreate", order(number), place=place, charset=charset)  # type: ignore[arg-type]
    status, _, body = await ask(shops, request)
    assert status == 200
    found = json.loads(body.decode(charset))["alipay_trade_precreate_response"]
    assert found.get("out_trade_no") == number, found


async def test_the_alipay_notification_pays_the_order_once_and_a_forged_one_never(
    shops: LocalStack, rest: AlipayV3Merchant
) -> None:
    number = order_number()
    assert (await ask(shops, v3(rest, "precreate", order(number))))[0] == 200
    notice = {"out_trade_no": number, "total_amount": "88.88", "app_id": APP_ID, "trade_no": "2026112222001"}
    notice["seller_id"] = SELLER_ID
    provider = AlipayProvider.from_folder(shops.keys)
    forger = replace(provider, key=load_key(shops.keys / "alipay_merchant.pem"))
    for sender, fields, accepted in (
        (forger, notice, False),
        (provider, {**notice, "total_amount": "0.01"}, False),
        (provider, {**notice, "seller_id": "2088100000000001"}, False),
        (provider, {**notice, "out_trade_no": f"{number}-another"}, False),
        (provider, notice, True),
    ):
        headers, body = sender.notification(fields)
        for _ in range(2):
            answer = await ask(shops, SignedRequest("POST", "/notify/alipay", headers, body))
            assert (answer[2] == b"success") is accepted, answer
        state = json.loads((await ask(shops, v3(rest, "query", {"out_trade_no": number})))[2])["trade_status"]
        assert state == ("TRADE_SUCCESS" if accepted else "WAIT_BUYER_PAY")


async def test_a_unionpay_orders_life(shops: LocalStack) -> None:
    merchant, number = unionpay_merchant(shops.keys), unionpay_number(order_number())
    fields = {"orderId": number, "txnAmt": "1000", "riskRateInfo": "{commodityName=测试&商品}"}
    asked = {"orderId": number, "txnType": "00", "txnSubType": "00"}
    accepted = unionpay_signed(shops.keys, await ask(shops, merchant.request(fields)))
    waiting = unionpay_signed(shops.keys, await ask(shops, merchant.request(asked, path=QUERY)))
    assert (accepted["respCode"], waiting["origRespCode"]) == ("00", "05")
    notice = {"orderId": number, "txnAmt": "1000", "merId": MER_ID, "queryId": accepted["queryId"]}
    headers, body = UnionpayProvider.from_folder(shops.keys).notification(notice)
    for _ in range(2):
        answer = await ask(shops, SignedRequest("POST", "/notify/unionpay", headers, body))
        assert answer[0] == 200, answer
    paid = unionpay_signed(shops.keys, await ask(shops, merchant.request(asked, path=QUERY)))
    assert paid["origRespCode"] == "00"
    back = {"orderId": f"{number}r", "txnType": "04", "txnAmt": "400", "origQryId": accepted["queryId"]}
    assert unionpay_signed(shops.keys, await ask(shops, merchant.request(back)))["respCode"] == "00"


async def test_a_unionpay_notification_of_somebody_elses_certificate_changes_nothing(shops: LocalStack) -> None:
    """Issued by the same authority, but to a merchant: the name decides."""
    merchant, number = unionpay_merchant(shops.keys), unionpay_number(order_number())
    assert unionpay_signed(shops.keys, await ask(shops, merchant.request({"orderId": number})))["respCode"] == "00"
    forger = UnionpayProvider.from_folder(shops.keys, "unionpay_merchant")
    headers, body = forger.notification({"orderId": number, "txnAmt": "100", "merId": MER_ID})
    assert (await ask(shops, SignedRequest("POST", "/notify/unionpay", headers, body)))[0] == 401
    asked = merchant.request({"orderId": number, "txnType": "00", "txnSubType": "00"}, path=QUERY)
    assert unionpay_signed(shops.keys, await ask(shops, asked))["origRespCode"] == "05"


async def test_unionpay_by_secure_key(shops: LocalStack) -> None:
    merchant = UnionpayMerchant.from_secure_key(SECURE_KEY_MER_ID, shops.keys / "unionpay_secure.key")
    status, _, body = await ask(shops, merchant.request({"orderId": unionpay_number(order_number())}))
    answer = read_answer(body)
    assert (status, answer["respCode"]) == (200, "00")
    assert signed_11(answer, merchant.secure_key)["signature"] == answer["signature"]


@pytest.mark.parametrize(
    ("wrong", "code"), [("amount", "11"), ("key", "11"), ("time", "10"), ("no amount", "13"), ("order", "12")]
)
async def test_unionpay_refusals_are_signed_and_have_a_code(shops: LocalStack, wrong: str, code: str) -> None:
    merchant, number = unionpay_merchant(shops.keys), unionpay_number(order_number())
    fields = {"orderId": number, "txnAmt": "1000"}
    request = merchant.request(fields)
    if wrong == "amount":
        form = dict(parse_qsl(request.body.decode()))
        request = replace(request, body=urlencode({**form, "txnAmt": "1"}).encode())
    elif wrong == "key":
        request = replace(merchant, key=load_key(shops.keys / "unionpay_provider.pem")).request(fields)
    elif wrong == "time":
        request = merchant.request(fields, at_s=1_700_000_000)
    elif wrong == "no amount":
        request = merchant.request({**fields, "txnAmt": "ten"})
    else:
        assert unionpay_signed(shops.keys, await ask(shops, request))["respCode"] == "00"
        request = merchant.request({**fields, "txnAmt": "1"})
    answer = unionpay_signed(shops.keys, await ask(shops, request))
    assert answer["respCode"] == code, answer
