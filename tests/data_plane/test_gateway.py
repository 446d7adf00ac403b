"""What the demo does not show: Envoy's own answers, forged headers, paths, traces, explain, what is logged."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.world import JSON, MCHID, World
from paymesh.cli.stack.local_stack import LocalStack

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize(
    ("path", "code"), [("/v3/nowhere", "RESOURCE_NOT_EXISTS"), ("/nowhere", "route_unknown"), ("/", "route_unknown")]
)
async def test_an_unknown_path_is_404_in_the_callers_protocol(world: World, path: str, code: str) -> None:
    answer = await world.send("GET", path, {})
    assert (answer.status, answer.document["code"], answer.reason) == (404, code, "route_unknown")
    assert answer.request_id


async def test_a_pay_path_with_another_method_reaches_no_service(world: World) -> None:
    answer = await world.send("PUT", "/v1/payments", {**JSON}, b"{}")
    assert (answer.status, answer.reason) == (404, "route_unknown")


@pytest.mark.parametrize("path", ["/v1/payments%2f1", "/v3/pay%5ctransactions"])
async def test_an_escaped_slash_is_refused(world: World, path: str) -> None:
    answer = await world.send("GET", path, {})
    assert answer.status == 400
    assert answer.document["code"] in ("request_malformed", "PARAM_ERROR")


async def test_a_path_that_the_client_did_not_write_canonically_cannot_be_verified(world: World) -> None:
    target = f"/v3/pay/transactions/./out-trade-no//1?mchid={MCHID}"
    answer = await world.send("GET", target, world.bookshop.headers("GET", target))
    assert (answer.status, answer.document["code"]) == (401, "SIGN_ERROR")


async def test_headers_that_only_we_may_write_are_removed(world: World) -> None:
    forged = {
        "x-pay-merchant": "bookshop",
        "X-PAY-Operation": "query",
        "x-pay-version": "v2",
        "x-pay-anything": "1",
        "x-request-id": "chosen-by-the-client",
        "x-envoy-retry-on": "5xx",
        "x-envoy-max-retries": "9",
        "x-forwarded-client-cert": "URI=spiffe://forged",
    }
    answer = await world.pay(payment(f"{world.run}-forged-all", "card"), extra=forged)
    assert answer.status == 200
    assert answer.request_id != "chosen-by-the-client"
    headers = (await world.received("card", answer.request_id))["headers"]
    assert isinstance(headers, dict)
    assert headers["x-pay-merchant"] == "teahouse"
    assert headers["x-pay-operation"] == "pay"
    ours = {"x-pay-version", "x-pay-anything", "x-envoy-retry-on", "x-envoy-max-retries", "x-forwarded-client-cert"}
    assert not ours & headers.keys()


async def test_underscores_do_not_smuggle_a_header(world: World) -> None:
    answer = await world.pay(payment(f"{world.run}-underscore", "card"), extra={"x_pay_merchant": "bookshop"})
    assert answer.status == 400


async def test_the_request_id_is_given_once_on_every_answer(world: World) -> None:
    allowed = await world.pay(payment(f"{world.run}-once", "card"))
    refused = await world.pay(payment(f"{world.run}-once", "gold"))
    for answer in (allowed, refused):
        assert len(answer.request_id) == 36, answer.request_id


async def test_a_trace_context_is_carried_and_its_ids_are_in_the_logs(world: World, stack: LocalStack) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    parent = f"00-{trace_id}-00f067aa0ba902b7-01"
    answer = await world.pay(payment(f"{world.run}-trace", "card"), extra={"traceparent": parent})
    headers = (await world.received("card", answer.request_id))["headers"]
    assert isinstance(headers, dict)
    assert headers["traceparent"] == parent
    for service in ("ext_authz", "ext_proc"):
        lines = await log_lines(stack, service, answer.request_id)
        assert lines, service
        assert all(json.loads(line)["trace_id"] == trace_id for line in lines), service


async def test_explain_tells_every_step_of_a_request(world: World, stack: LocalStack) -> None:
    answer = await world.pay(payment(f"{world.run}-explain", "card", payer={"phone": "13812341234"}))
    await log_lines(stack, "access", answer.request_id)
    shown = await explain(stack, answer.request_id)
    for part in ("route ", "credential", "replay", "limits", "fields", "channel", "sanitize", "observe", "card|v1"):
        assert part in shown, shown
    assert "13812341234" not in shown
    refused = await world.pay(payment(f"{world.run}-explain", "gold"))
    await log_lines(stack, "ext_authz", refused.request_id)
    assert "channel_none" in await explain(stack, refused.request_id)


async def test_no_secret_and_no_personal_data_in_a_log(world: World, stack: LocalStack) -> None:
    personal = {"phone": "13987654321", "resident_id": "11010519491231002X", "email": "planted@example.com"}
    answer = await world.pay(
        payment(f"{world.run}-leak", "card", payer=personal, card={"pan": "6222029876543210", "cvv": "987"}),
        extra={"authorization": "Bearer planted-token"},
    )
    assert answer.status == 200
    await log_lines(stack, "ext_proc", answer.request_id)
    await log_lines(stack, "access", answer.request_id)
    secret = world.teahouse.secret.decode()
    for file in stack.logs.iterdir():
        text = file.read_text(errors="replace")
        for value in (*personal.values(), "6222029876543210", "planted-token", secret):
            assert value not in text, f"{value} in {file.name}"


async def test_an_order_number_with_another_payload_is_refused(world: World) -> None:
    first = await world.pay(payment(f"{world.run}-differs", "alipay_qr"))
    second = await world.pay({**payment(f"{world.run}-differs", "alipay_qr"), "amount": {"total": 7}})
    assert (first.status, second.status) == (200, 422)
    assert second.document["code"] == "order_conflict"


async def test_a_body_at_the_limit_passes_and_one_byte_more_is_413(world: World) -> None:
    empty = json.dumps(payment(f"{world.run}-limit", "offline", memo=""), ensure_ascii=False)
    room = 65_536 - len(empty.encode())
    assert (await world.pay(payment(f"{world.run}-limit", "offline", memo="m" * room))).status == 200
    larger = await world.pay(payment(f"{world.run}-limit", "offline", memo="m" * (room + 1)))
    assert (larger.status, larger.document["code"], larger.reason) == (413, "body_too_large", "body_too_large")


async def explain(stack: LocalStack, request_id: str) -> str:
    command = [sys.executable, "-m", "paymesh.cli", "explain", request_id, "--logs", str(stack.logs)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    return done.stdout


async def log_lines(stack: LocalStack, name: str, request_id: str) -> list[str]:
    """The log's lines about a request; waits a little, since logs are written behind the answer."""
    for _ in range(200):
        found = [line for line in (stack.logs / f"{name}.log").read_text().splitlines() if request_id in line]
        if found:
            return found
        await asyncio.sleep(0.05)
    return []
