"""Owns the scenarios of merchants that speak Alipay's and UnionPay's own protocols, and of orders begun once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from paymesh.cli.demo.alipay_signing import AlipayMerchant, AlipayProvider
from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.rsa_signing import load_key
from paymesh.cli.demo.scenario import Scenario
from paymesh.cli.demo.signed_request import SignedRequest
from paymesh.cli.demo.unionpay_signing import UnionpayMerchant, read_answer
from paymesh.cli.demo.world import Answer, World

APP_ID, SELLER_ID, MER_ID = "2021000000000001", "2088100000000000", "777290058110048"


async def _send(world: World, request: SignedRequest) -> Answer:
    return await world.send(request.method, request.target, request.headers, request.body)


def _alipay(world: World) -> AlipayMerchant:
    return AlipayMerchant.from_file(APP_ID, world.keys / "alipay_merchant.pem")


def _answered(answer: Answer) -> str:
    """An Alipay v2 answer in words: status, the object's name, code and sub_code."""
    name, told = next(iter(answer.document.items()), ("nothing", {}))
    found: Mapping[str, object] = told if isinstance(told, dict) else {}
    reason = f" ({answer.reason})" if answer.reason else ""
    return (
        " ".join(
            [
                str(answer.status),
                name,
                str(found.get("code")),
                *([str(found["sub_code"])] if "sub_code" in found else []),
            ]
        )
        + reason
    )


def _trade(world: World, name: str) -> dict[str, object]:
    return {"out_trade_no": f"{world.run}{name}", "total_amount": "88.88", "subject": "茶"}


async def _by_get(world: World) -> str:
    request = _alipay(world).request("alipay.trade.precreate", _trade(world, "get"), place="query", http_method="GET")
    return _answered(await _send(world, request))


async def _by_gbk_form(world: World) -> str:
    request = _alipay(world).request("alipay.trade.precreate", _trade(world, "gbk"), place="split", charset="gbk")
    return _answered(await _send(world, request))


async def _forged(world: World) -> str:
    forger = replace(_alipay(world), key=load_key(world.keys / "wechat_merchant.pem"))
    request = forger.request("alipay.trade.precreate", _trade(world, "forged"), place="split")
    return _answered(await _send(world, request))


async def _notified(world: World) -> str:
    await _send(world, _alipay(world).request("alipay.trade.precreate", _trade(world, "paid")))
    provider = AlipayProvider.from_folder(world.keys)
    notice = {"out_trade_no": f"{world.run}paid", "app_id": APP_ID, "seller_id": SELLER_ID, "trade_no": world.run}
    told = []
    for amount in ("0.01", "88.88"):
        headers, body = provider.notification({**notice, "total_amount": amount})
        answer = await world.send("POST", "/notify/alipay", headers, body)
        told.append(f"{answer.body.decode()}{f' ({answer.reason})' if answer.reason else ''}")
    return ", then ".join(told)


async def _unionpay(world: World) -> str:
    merchant = UnionpayMerchant.from_files(
        MER_ID, world.keys / "unionpay_merchant.pem", world.keys / "unionpay_merchant.crt"
    )
    number = f"{int(world.run, 16):020}"
    answer = await _send(world, merchant.request({"orderId": number}))
    forged = merchant.request({"orderId": number})
    refused = await _send(world, replace(forged, body=forged.body.replace(b"txnAmt=100", b"txnAmt=1")))
    told = [read_answer(one.body).get("respCode") for one in (answer, refused)]
    return f"{told[0]}, then {told[1]} ({refused.reason})"


async def _other_amount(world: World) -> str:
    document = payment(f"{world.run}-once", "offline")
    first = await world.pay(document)
    second = await world.pay({**document, "amount": {"total": 1, "currency": "CNY"}})
    return f"{first.status}, then {second.status} {second.reason}"


async def _login(world: World) -> str:
    answer = await world.send("POST", "/v1/login", {"x-pay-user": "members:root"})
    return f"{answer.status} {json.loads(answer.body)['code']}"


PROVIDERS = (
    Scenario("Alipay v2 by GET, as one SDK", "200 alipay_trade_precreate_response 10000", _by_get),
    Scenario("Alipay v2 split and in gbk", "200 alipay_trade_precreate_response 10000", _by_gbk_form),
    Scenario(
        "Alipay v2 signed by another key",
        "200 alipay_trade_precreate_response 40002 isv.invalid-signature (credential_invalid)",
        _forged,
    ),
    Scenario("Alipay notifies another amount", "fail (order_mismatch), then success", _notified),
    Scenario("UnionPay, then with another amount", "00, then 11 (credential_invalid)", _unionpay),
    Scenario("order number with another amount", "200, then 422 order_conflict", _other_amount),
    Scenario("login without a token", "401 user_missing", _login),
)
