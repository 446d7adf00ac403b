"""Owns the scenarios of a merchant that speaks JSON and pays through the providers' own protocols."""

from __future__ import annotations

from paymesh.cli.demo.http_signing import HttpSignatureMerchant
from paymesh.cli.demo.scenario import Act, Scenario
from paymesh.cli.demo.world import Answer, World

TARGET = "/v1/charges"


async def _ask(world: World, method: str, target: str, document: object = None) -> Answer:
    key = world.keys / "http_signature.pem"
    merchant = HttpSignatureMerchant.from_file("cinema-2026", key, f"http://{world.gateway}")
    request = merchant.request(method, target, document)
    return await world.send(request.method, request.target, request.headers, request.body)


def _charge(world: World, product: str) -> dict[str, object]:
    return {
        # UnionPay takes letters and digits alone, 8 to 40.
        "order_no": f"{world.run}{product.replace('_', '')}",
        "amount": {"total": 1234, "currency": "CNY"},
        "product": product,
        "subject": "电影票",
    }


def _told(answer: Answer) -> str:
    document = answer.document
    return f"{answer.status} {document.get('channel')} {document.get('status') or answer.reason}"


def _through(product: str) -> Act:
    async def act(world: World) -> str:
        charge = _charge(world, product)
        paid = await _ask(world, "POST", TARGET, charge)
        asked = await _ask(world, "GET", f"{TARGET}/{charge['order_no']}")
        return f"{_told(paid)}, asked: {asked.document.get('status')}"

    return act


async def _without_code(world: World) -> str:
    return _told(await _ask(world, "POST", TARGET, _charge(world, "auth_code")))


CHARGES = (
    Scenario("JSON paid through WeChat Pay", "200 wechat-direct ACCEPTED, asked: ACCEPTED", _through("wechat_qr")),
    # Alipay knows a QR order only when its payer has scanned the code; its simulator, at once.
    Scenario("JSON paid through Alipay", "200 alipay-direct ACCEPTED, asked: ACCEPTED", _through("alipay_qr")),
    Scenario("JSON paid through UnionPay", "200 unionpay-direct ACCEPTED, asked: ACCEPTED", _through("unionpay_qr")),
    Scenario("JSON without the payer's code", "400 None field_invalid", _without_code),
)
