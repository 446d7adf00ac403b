"""Owns the scenarios in which money moves as it should."""

from __future__ import annotations

from paymesh.cli.demo.scenario import Scenario
from paymesh.cli.demo.world import JSON, World


async def _order(world: World) -> str:
    answer = await world.wechat_order(f"{world.run}-paid")
    code_url = str(answer.document.get("code_url", ""))
    state = await world.wechat_state(f"{world.run}-paid")
    return f"{answer.status}, {'code_url' if code_url.startswith('weixin://') else 'no code_url'}, order {state}"


async def _notified_once(world: World) -> str:
    headers, body = world.platform.notification(world.notice(f"{world.run}-paid"))
    first = await world.send("POST", "/notify/wechat", {**JSON, **headers}, body)
    return f"{first.status}, order {await world.wechat_state(f'{world.run}-paid')}"


async def _notified_again(world: World) -> str:
    order = f"{world.run}-again"
    await world.wechat_order(order)
    headers, body = world.platform.notification(world.notice(order))
    states = []
    for _ in range(2):
        answer = await world.send("POST", "/notify/wechat", {**JSON, **headers}, body)
        states.append(f"{answer.status} {await world.wechat_state(order)}")
    # The same notification signed anew, as the provider does when it heard no acknowledgement.
    answer = await world.send("POST", "/notify/wechat", {**JSON, **world.platform.sign(body)}, body)
    states.append(f"{answer.status} {await world.wechat_state(order)}")
    return ", ".join(states)


async def _card(world: World) -> str:
    answer = await world.pay(payment(f"{world.run}-card", "card", card={"pan": "6222021234567894", "cvv": "123"}))
    return f"{answer.status} {answer.document.get('status')} by {answer.document.get('channel')}"


async def _offline(world: World) -> str:
    answer = await world.pay(payment(f"{world.run}-offline", "offline"))
    return f"{answer.status} {answer.document.get('status')} by {answer.document.get('channel')}"


async def _query(world: World) -> str:
    order = f"{world.run}-query"
    await world.pay(payment(order, "alipay_qr"))
    target = f"/v1/payments/{order}"
    answer = await world.send("GET", target, world.teahouse.headers("GET", target))
    return f"{answer.status} {answer.document.get('status')} by {answer.document.get('channel')}"


def payment(order_no: str, product: str, **more: object) -> dict[str, object]:
    """A generic merchant's order over ten yuan."""
    return {"order_no": order_no, "amount": {"total": 1000, "currency": "CNY"}, "product": product, **more}


PAYMENTS = (
    Scenario("WeChat native order", "200, code_url, order NOTPAY", _order),
    Scenario("provider's signed notification", "204, order SUCCESS", _notified_once),
    Scenario("notification repeated, twice", "204 SUCCESS, 204 SUCCESS, 204 SUCCESS", _notified_again),
    Scenario("card payment by HMAC", "200 SUCCEEDED by card", _card),
    Scenario("offline payment", "200 ACCEPTED by offline", _offline),
    Scenario("order query", "200 ACCEPTED by alipay", _query),
)
