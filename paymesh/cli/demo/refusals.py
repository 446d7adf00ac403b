"""Owns the scenarios in which something is wrong and must be refused, in the caller's protocol."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.scenario import Scenario
from paymesh.cli.demo.signing import HmacMerchant
from paymesh.cli.demo.world import JSON, Answer, World


async def _forged_notification(world: World) -> str:
    order = f"{world.run}-forged"
    await world.wechat_order(order)
    forger = replace(world.platform, key=world.bookshop.key)
    headers, body = forger.notification(world.notice(order))
    answer = await world.send("POST", "/notify/wechat", {**JSON, **headers}, body)
    return f"{answer.refusal()}, order {await world.wechat_state(order)}"


async def _changed_body(world: World) -> str:
    body = json.dumps(payment(f"{world.run}-changed", "offline")).encode()
    signed = world.teahouse.headers("POST", "/v1/payments", body)
    answer = await world.send("POST", "/v1/payments", {**JSON, **signed}, body.replace(b"1000", b"1"))
    return answer.refusal()


async def _same_nonce(world: World) -> str:
    body = json.dumps(payment(f"{world.run}-nonce", "offline")).encode()
    signed = world.teahouse.headers("POST", "/v1/payments", body)
    first = await world.send("POST", "/v1/payments", {**JSON, **signed}, body)
    second = await world.send("POST", "/v1/payments", {**JSON, **signed}, body)
    return f"{first.status}, then {second.refusal()}"


async def _expired(world: World) -> str:
    target = f"/v3/pay/transactions/out-trade-no/{world.run}?mchid=1900007291"
    signed = world.bookshop.headers("GET", target, at_s=int(time.time()) - 3600)
    return (await world.send("GET", target, signed)).refusal()


async def _forged_header(world: World) -> str:
    forged = {"x-pay-merchant": "bookshop", "X-Pay-Channel": "offline", "x-pay-split": "0"}
    answer = await world.pay(payment(f"{world.run}-header", "card"), extra=forged)
    headers = (await world.received("card", answer.request_id)).get("headers")
    seen = headers if isinstance(headers, dict) else {}
    return f"{answer.status}, upstream saw {seen.get('x-pay-merchant')} by {seen.get('x-pay-channel')}"


async def _unknown_merchant(world: World) -> str:
    return (await world.pay(payment("1", "offline"), HmacMerchant("nobody", b"whatever it may be"))).refusal()


async def _raw(world: World, body: bytes) -> Answer:
    signed = world.teahouse.headers("POST", "/v1/payments", body)
    return await world.send("POST", "/v1/payments", {**JSON, **signed}, body)


async def _malformed(world: World) -> str:
    return (await _raw(world, b'{"order_no": "1", "amount": ')).refusal()


async def _duplicate(world: World) -> str:
    return (await _raw(world, b'{"order_no":"1","amount":{"total":1,"total":100},"product":"offline"}')).refusal()


async def _too_large(world: World) -> str:
    target = "/v3/pay/transactions/native"
    body = b'{"description": "' + b"a" * 100_000 + b'"}'
    answer = await world.send("POST", target, {**JSON, **world.bookshop.headers("POST", target, body)}, body)
    return answer.refusal()


async def _over_the_limit(world: World) -> str:
    answers = [await world.pay(payment(f"{world.run}-limit-{n}", "offline"), world.smallstall) for n in range(5)]
    refused = next((answer for answer in answers if answer.status != 200), answers[-1])
    wait = refused.headers.get("retry-after", "")
    return (
        f"{answers[0].status}, then {refused.refusal()}, retry-after {'in seconds' if wait.isdecimal() else 'absent'}"
    )


REFUSALS = (
    Scenario("forged notification", "401 FAIL (credential_invalid), order NOTPAY", _forged_notification),
    Scenario("body changed after signing", "401 credential_invalid (credential_invalid)", _changed_body),
    Scenario("the same nonce twice", "200, then 401 nonce_replayed (nonce_replayed)", _same_nonce),
    Scenario("expired timestamp", "401 SIGN_ERROR (timestamp_expired)", _expired),
    Scenario("forged x-pay-merchant header", "200, upstream saw teahouse by card", _forged_header),
    Scenario("unknown merchant", "401 credential_invalid (credential_invalid)", _unknown_merchant),
    Scenario("malformed JSON", "400 body_malformed (body_malformed)", _malformed),
    Scenario("duplicate JSON keys", "400 body_duplicate_key (body_duplicate_key)", _duplicate),
    Scenario("body over the limit", "413 PARAM_ERROR (body_too_large)", _too_large),
    Scenario(
        "merchant over its limit", "200, then 429 rate_limited (rate_limited), retry-after in seconds", _over_the_limit
    ),
)
