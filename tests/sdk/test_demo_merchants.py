"""The demo's own merchants where no client is published (UnionPay, Alipay v3), against the sample trade service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from paymesh.cli.demo.alipay_signing import AlipayMerchant, AlipayV3Merchant
from paymesh.cli.demo.signed_request import SignedRequest
from paymesh.cli.demo.unionpay_signing import (
    APP,
    FRONT,
    QUERY,
    UnionpayMerchant,
    UnionpayProvider,
    read_answer,
    signed_11,
)
from tests.sdk.alipay_merchants import APP_ID, order, order_number
from tests.sdk.demo_merchants import (
    MER_ID,
    alipay_signed,
    send,
    unionpay_merchant,
    unionpay_number,
    unionpay_signed,
    v3,
)


async def test_an_orders_life_by_alipay_v3(trade: TestServer, sdk_keys: Path) -> None:
    address = f"{trade.host}:{trade.port}"
    merchant, number = AlipayV3Merchant.from_file(APP_ID, sdk_keys / "alipay_merchant.pem"), order_number()
    seen = []
    for operation, fields in (
        ("query", {"out_trade_no": number}),
        ("precreate", order(number)),
        ("query", {"out_trade_no": number}),
        ("close", {"out_trade_no": number}),
    ):
        status, headers, body = await send(address, v3(merchant, operation, fields))
        alipay_signed(sdk_keys, headers, body)
        with pytest.raises(InvalidSignature):
            alipay_signed(sdk_keys, headers, body + b" ")
        seen.append((status, json.loads(body)))
    assert seen[0] == (400, {"code": "ACQ.TRADE_NOT_EXIST", "message": "no such trade"})
    assert [status for status, _ in seen[1:]] == [200, 200, 200]
    assert seen[2][1]["trade_status"] == "WAIT_BUYER_PAY"


async def test_alipay_v3_multipart(trade: TestServer, sdk_keys: Path) -> None:
    address = f"{trade.host}:{trade.port}"
    merchant, number = AlipayV3Merchant.from_file(APP_ID, sdk_keys / "alipay_merchant.pem"), order_number()
    data = json.dumps(order(number), ensure_ascii=False).encode()
    request = merchant.multipart("/v3/alipay/trade/precreate", data, {"receipt": b"\x00\xff--\r\n"})
    status, headers, body = await send(address, request)
    alipay_signed(sdk_keys, headers, body)
    assert (status, json.loads(body)["out_trade_no"]) == (200, number)


@pytest.mark.parametrize("place", ["form", "query", "split"])
@pytest.mark.parametrize("charset", ["utf-8", "gbk"])
async def test_alipay_v2_parameters_wherever_they_stand(
    trade: TestServer, sdk_keys: Path, place: str, charset: str
) -> None:
    merchant, number = AlipayMerchant.from_file(APP_ID, sdk_keys / "alipay_merchant.pem"), order_number()
    request = merchant.request("alipay.trade.precreate", order(number), place=place, charset=charset)  # type: ignore[arg-type]
    status, headers, body = await send(f"{trade.host}:{trade.port}", request)
    assert (status, headers["content-type"]) == (200, f"text/html;charset={charset}")
    assert json.loads(body.decode(charset))["alipay_trade_precreate_response"]["out_trade_no"] == number


async def test_a_unionpay_orders_life(trade: TestServer, sdk_keys: Path) -> None:
    address = f"{trade.host}:{trade.port}"
    merchant, number = unionpay_merchant(sdk_keys), unionpay_number(order_number())
    fields = {"orderId": number, "txnAmt": "1000", "riskRateInfo": "{commodityName=测试&商品}"}
    asked = {"orderId": number, "txnType": "00", "txnSubType": "00"}
    unknown = unionpay_signed(sdk_keys, await send(address, merchant.request(asked, path=QUERY)))
    accepted = unionpay_signed(sdk_keys, await send(address, merchant.request(fields, path=FRONT)))
    token = unionpay_signed(sdk_keys, await send(address, merchant.request(fields, path=APP)))
    differs = unionpay_signed(sdk_keys, await send(address, merchant.request({**fields, "txnAmt": "1"})))
    waiting = unionpay_signed(sdk_keys, await send(address, merchant.request(asked, path=QUERY)))
    assert (unknown["respCode"], accepted["respCode"], differs["respCode"]) == ("34", "00", "12")
    assert token["tn"]
    assert waiting["origRespCode"] == "05"
    notice = {"orderId": number, "txnAmt": "1000", "merId": MER_ID, "queryId": accepted["queryId"]}
    headers, body = UnionpayProvider.from_folder(sdk_keys).notification(notice)
    assert (await send(address, SignedRequest("POST", "/notify/unionpay", headers, body)))[::2] == (200, b"ok")
    paid = unionpay_signed(sdk_keys, await send(address, merchant.request(asked, path=QUERY)))
    assert paid["origRespCode"] == "00"
    back = {"orderId": f"{number}r", "txnType": "04", "txnAmt": "400", "origQryId": accepted["queryId"]}
    refunds = [unionpay_signed(sdk_keys, await send(address, merchant.request(back))) for _ in range(2)]
    assert [refund["respCode"] for refund in refunds] == ["00", "00"]
    too_much = merchant.request({**back, "orderId": f"{number}s", "txnAmt": "601"})
    assert unionpay_signed(sdk_keys, await send(address, too_much))["respCode"] == "35"


async def test_unionpay_by_secure_key(trade: TestServer, sdk_keys: Path) -> None:
    address = f"{trade.host}:{trade.port}"
    merchant = UnionpayMerchant.from_secure_key(MER_ID, sdk_keys / "unionpay_secure.key")
    _, _, body = await send(address, merchant.request({"orderId": unionpay_number(order_number())}))
    answer = read_answer(body)
    assert answer["respCode"] == "00"
    assert signed_11(answer, merchant.secure_key)["signature"] == answer["signature"]


async def test_the_unionpay_notification_carries_its_certificate(sdk_keys: Path) -> None:
    form = UnionpayProvider.from_folder(sdk_keys).form({"orderId": "1", "respCode": "00"})
    certificate = x509.load_pem_x509_certificate(form["signPubKeyCert"].encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((sdk_keys / "unionpay_ca.crt").read_bytes()))
    [name] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert str(name.value).split("@")[2] == "00040000:UNIONPAY"
