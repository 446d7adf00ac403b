"""The demo's own merchants where no client is published (UnionPay, Alipay v3), against the sample trade service."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from yarl import URL

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
    sorted_text,
)
from tests.sdk.alipay_merchants import APP_ID, order, order_number

MER_ID = "777290058110048"


async def send(server: TestServer, request: SignedRequest) -> tuple[int, dict[str, str], bytes]:
    url = URL(f"http://{server.host}:{server.port}{request.target}", encoded=True)
    async with (
        aiohttp.ClientSession() as session,
        session.request(request.method, url, headers=request.headers, data=request.body or None) as answer,
    ):
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()


def v3(merchant: AlipayV3Merchant, operation: str, fields: dict[str, str]) -> SignedRequest:
    target, body = f"/v3/alipay/trade/{operation}", json.dumps(fields, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", **merchant.headers("POST", target, body)}
    return SignedRequest("POST", target, headers, body)


def alipay_signed(keys: Path, headers: dict[str, str], body: bytes) -> None:
    """Raises InvalidSignature unless Alipay's certificate signed the answer."""
    key = x509.load_pem_x509_certificate((keys / "alipay_platform.crt").read_bytes()).public_key()
    assert isinstance(key, RSAPublicKey)
    text = f"{headers['alipay-timestamp']}\n{headers['alipay-nonce']}\n".encode() + body + b"\n"
    key.verify(base64.b64decode(headers["alipay-signature"]), text, PKCS1v15(), SHA256())


async def test_an_orders_life_by_alipay_v3(trade: TestServer, sdk_keys: Path) -> None:
    merchant, number = AlipayV3Merchant.from_file(APP_ID, sdk_keys / "alipay_merchant.pem"), order_number()
    seen = []
    for operation, fields in (
        ("query", {"out_trade_no": number}),
        ("precreate", order(number)),
        ("query", {"out_trade_no": number}),
        ("close", {"out_trade_no": number}),
    ):
        status, headers, body = await send(trade, v3(merchant, operation, fields))
        alipay_signed(sdk_keys, headers, body)
        with pytest.raises(InvalidSignature):
            alipay_signed(sdk_keys, headers, body + b" ")
        seen.append((status, json.loads(body)))
    assert seen[0] == (400, {"code": "ACQ.TRADE_NOT_EXIST", "message": "no such trade"})
    assert [status for status, _ in seen[1:]] == [200, 200, 200]
    assert seen[2][1]["trade_status"] == "WAIT_BUYER_PAY"


async def test_alipay_v3_multipart(trade: TestServer, sdk_keys: Path) -> None:
    merchant, number = AlipayV3Merchant.from_file(APP_ID, sdk_keys / "alipay_merchant.pem"), order_number()
    data = json.dumps(order(number), ensure_ascii=False).encode()
    request = merchant.multipart("/v3/alipay/trade/precreate", data, {"receipt": b"\x00\xff--\r\n"})
    status, headers, body = await send(trade, request)
    alipay_signed(sdk_keys, headers, body)
    assert (status, json.loads(body)["out_trade_no"]) == (200, number)


@pytest.mark.parametrize("place", ["form", "query", "split"])
@pytest.mark.parametrize("charset", ["utf-8", "gbk"])
async def test_alipay_v2_parameters_wherever_they_stand(
    trade: TestServer, sdk_keys: Path, place: str, charset: str
) -> None:
    merchant, number = AlipayMerchant.from_file(APP_ID, sdk_keys / "alipay_merchant.pem"), order_number()
    request = merchant.request("alipay.trade.precreate", order(number), place=place, charset=charset)  # type: ignore[arg-type]
    status, headers, body = await send(trade, request)
    assert (status, headers["content-type"]) == (200, f"text/html;charset={charset}")
    assert json.loads(body.decode(charset))["alipay_trade_precreate_response"]["out_trade_no"] == number


async def test_a_unionpay_orders_life(trade: TestServer, sdk_keys: Path) -> None:
    merchant = UnionpayMerchant.from_files(
        MER_ID, sdk_keys / "unionpay_merchant.pem", sdk_keys / "unionpay_merchant.crt"
    )
    number = order_number().replace("-", "")
    fields = {"orderId": number, "txnAmt": "1000", "riskRateInfo": "{commodityName=测试&商品}"}
    asked = {"orderId": number, "txnType": "00", "txnSubType": "00"}
    unknown = unionpay_signed(sdk_keys, await send(trade, merchant.request(asked, path=QUERY)))
    accepted = unionpay_signed(sdk_keys, await send(trade, merchant.request(fields, path=FRONT)))
    token = unionpay_signed(sdk_keys, await send(trade, merchant.request(fields, path=APP)))
    differs = unionpay_signed(sdk_keys, await send(trade, merchant.request({**fields, "txnAmt": "1"})))
    waiting = unionpay_signed(sdk_keys, await send(trade, merchant.request(asked, path=QUERY)))
    assert (unknown["respCode"], accepted["respCode"], differs["respCode"]) == ("34", "00", "12")
    assert token["tn"]
    assert waiting["origRespCode"] == "05"
    notice = {"orderId": number, "txnAmt": "1000", "merId": MER_ID, "queryId": accepted["queryId"]}
    headers, body = UnionpayProvider.from_folder(sdk_keys).notification(notice)
    assert (await send(trade, SignedRequest("POST", "/notify/unionpay", headers, body)))[::2] == (200, b"ok")
    paid = unionpay_signed(sdk_keys, await send(trade, merchant.request(asked, path=QUERY)))
    assert paid["origRespCode"] == "00"
    back = {"orderId": f"{number}r", "txnType": "04", "txnAmt": "400", "origQryId": accepted["queryId"]}
    refunds = [unionpay_signed(sdk_keys, await send(trade, merchant.request(back))) for _ in range(2)]
    assert [refund["respCode"] for refund in refunds] == ["00", "00"]
    too_much = merchant.request({**back, "orderId": f"{number}s", "txnAmt": "601"})
    assert unionpay_signed(sdk_keys, await send(trade, too_much))["respCode"] == "35"


async def test_unionpay_by_secure_key(trade: TestServer, sdk_keys: Path) -> None:
    merchant = UnionpayMerchant.from_secure_key(MER_ID, sdk_keys / "unionpay_secure.key")
    _, _, body = await send(trade, merchant.request({"orderId": order_number().replace("-", "")}))
    answer = read_answer(body)
    assert answer["respCode"] == "00"
    assert signed_11(answer, merchant.secure_key)["signature"] == answer["signature"]


async def test_the_unionpay_notification_carries_its_certificate(sdk_keys: Path) -> None:
    form = UnionpayProvider.from_folder(sdk_keys).form({"orderId": "1", "respCode": "00"})
    certificate = x509.load_pem_x509_certificate(form["signPubKeyCert"].encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((sdk_keys / "unionpay_ca.crt").read_bytes()))
    [name] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert str(name.value).split("@")[2] == "00040000:UNIONPAY"


def unionpay_signed(keys: Path, answer: tuple[int, dict[str, str], bytes]) -> dict[str, str]:
    """The fields of an answer. Raises InvalidSignature unless the certificate in it signed it."""
    fields = read_answer(answer[2])
    assert fields["signPubKeyCert"] == (keys / "unionpay_provider.crt").read_text()
    key = x509.load_pem_x509_certificate(fields["signPubKeyCert"].encode()).public_key()
    assert isinstance(key, RSAPublicKey)
    digest = hashlib.sha256(sorted_text(fields).encode()).hexdigest()
    key.verify(base64.b64decode(fields["signature"]), digest.encode(), PKCS1v15(), SHA256())
    return fields
