"""Owns the scenarios in which an answer hides personal data from the merchant, whose SDK verifies it all the same."""

from __future__ import annotations

import json

from cryptography.exceptions import InvalidSignature

from paymesh.cli.demo.alipay_signing import AlipayMerchant, AlipayV3Merchant
from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.scenario import Scenario
from paymesh.cli.demo.verifying import verified_alipay_v2, verified_v3
from paymesh.cli.demo.world import JSON, MCHID, Answer, World

APP_ID = "2021000000000001"
PRECREATE, QUERY = "alipay.trade.precreate", "alipay.trade.query"


def _order(world: World, name: str) -> dict[str, object]:
    return {"out_trade_no": f"{world.run}-{name}", "total_amount": "88.88", "subject": "茶"}


async def _alipay_v2(world: World, charset: str = "utf-8") -> str:
    merchant = AlipayMerchant.from_file(APP_ID, world.keys / "alipay_merchant.pem")
    order = _order(world, f"masked-{charset}")
    for method in (PRECREATE, QUERY):
        request = merchant.request(method, order, charset=charset)
        answer = await world.send(request.method, request.target, request.headers, request.body)
    found = verified_alipay_v2(world.keys / "alipay_platform_pub.pem", QUERY, answer.body, charset)
    return f"{found.get('buyer_user_name')} {found.get('buyer_logon_id')}, verified"


async def _alipay_v2_in_gbk(world: World) -> str:
    return await _alipay_v2(world, "gbk")


async def _alipay_v3(world: World) -> str:
    merchant = AlipayV3Merchant.from_file(APP_ID, world.keys / "alipay_merchant.pem")
    order = _order(world, "masked-v3")
    for operation in ("precreate", "query"):
        target, body = f"/v3/alipay/trade/{operation}", json.dumps(order, ensure_ascii=False).encode()
        answer = await world.send("POST", target, {**JSON, **merchant.headers("POST", target, body)}, body)
    found = verified_v3(world.keys / "alipay_platform_pub.pem", "alipay", answer.headers, answer.body)
    return f"{found.get('body')}, verified"


async def _wechat_answer(world: World, name: str) -> Answer:
    order = f"{world.run}-{name}"
    await world.wechat_order(order)
    target = f"/v3/pay/transactions/out-trade-no/{order}?mchid={MCHID}"
    return await world.send("GET", target, world.bookshop.headers("GET", target))


async def _wechat(world: World) -> str:
    answer = await _wechat_answer(world, "masked")
    found = verified_v3(world.keys / "wechat_platform_pub.pem", "wechatpay", answer.headers, answer.body)
    return f"{found.get('payer')} {found.get('attach')}, verified"


async def _wechat_changed_later(world: World) -> str:
    answer = await _wechat_answer(world, "masked-later")
    body = answer.body.replace(b"138****1234", b"13899991234")
    try:
        verified_v3(world.keys / "wechat_platform_pub.pem", "wechatpay", answer.headers, body)
    except InvalidSignature:
        return "not verified"
    return "verified"


async def _generic(world: World) -> str:
    target = f"/v1/payments/{world.run}-masked"
    await world.pay(payment(f"{world.run}-masked", "alipay_qr"))
    answer = await world.send("GET", target, world.teahouse.headers("GET", target))
    return str(answer.document.get("payer"))


MASKED_ANSWERS = (
    Scenario("Alipay v2 answer, masked, signed again", "李** 138****1234, verified", _alipay_v2),
    Scenario("Alipay v2 answer in gbk, the same", "李** 138****1234, verified", _alipay_v2_in_gbk),
    Scenario("Alipay v3 answer, the same", "回执寄 l***@example.com, verified", _alipay_v3),
    Scenario("WeChat answer, the same", "{'openid': '***'} 送货前请致电 138****1234, verified", _wechat),
    Scenario("WeChat answer changed after that", "not verified", _wechat_changed_later),
    Scenario(
        "generic answer, masked",
        "{'name': '李**', 'phone': '138****1234', 'email': 'l***@example.com'}",
        _generic,
    ),
)
