"""Queries, refunds and closes go where their order went, also when the order store has forgotten it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ext_authz.attempts import Attempts
from ext_authz.check_context import CheckContext
from ext_authz.steps.channel import ChannelStep
from ext_authz.steps.order import OrderStep
from paymesh.payments.channels.health import NothingKnown
from paymesh.payments.credentials.claim import Authenticated
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.events.sqlite_log import SqliteLog
from paymesh.payments.fields.facts import OrderFacts
from paymesh.payments.money import Money
from paymesh.payments.orders import InProcessOrders
from paymesh.payments.policy.callers import Merchant, Scheme
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.request import Request

POLICY = """
services: [{name: s, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 1}]}]}]
channels:
  - {name: a, service: s, operations: [pay, query, refund, close], priority: 2}
  - {name: b, service: s, operations: [pay, query, refund, close], priority: 1}
routes:
  - name: pay
    operation: pay
    match: {path: /pay, methods: [POST]}
    schemes: [hmac]
    fields: {order_no: /no, amount: /amount}
    channels: [a, b]
  - {name: query, operation: query, match: {path: /query}, schemes: [hmac], fields: {order_no: /no}, channels: [a, b]}
  - {name: only-a, operation: query, match: {path: /a}, schemes: [hmac], fields: {order_no: /no}, channels: [a]}
  - name: refund
    operation: refund
    match: {path: /refund}
    schemes: [hmac]
    fields: {order_no: /refund_no, original_order_no: /no, amount: /amount}
    channels: [a, b]
"""
NOW_S = 1_790_000_000


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    return load_policy([file], {})


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    found = SqliteLog(tmp_path / "events.sqlite", deadline_s=10)
    await found.prepare()
    yield found
    await found.close()


def context(policy: Policy, route: str, now_s: int = NOW_S, **facts: str) -> CheckContext:
    request = Request("POST", f"/{route}", {}, b"", f"{route}-{now_s}")
    begun = CheckContext(request, policy, now_s, 0, route=policy.routes_by_name[route])
    caller = Authenticated(Merchant("shop", {}), Scheme.HMAC, "key", proves={})
    return begun.having(caller=caller, facts=OrderFacts(money=Money(500, "CNY"), **facts))


async def pay(policy: Policy, orders: InProcessOrders, attempts: Attempts, channel: str) -> None:
    begun = context(policy, "pay", order_no="N").having(channel=policy.channels[channel])
    passed = await OrderStep(orders, attempts)(begun)
    assert isinstance(passed, CheckContext), passed


async def follow(policy: Policy, orders: InProcessOrders, attempts: Attempts, route: str, **facts: str) -> object:
    return await ChannelStep(NothingKnown(), orders, attempts)(context(policy, route, NOW_S + 60, **facts))


async def test_the_order_store_tells_the_channel(policy: Policy) -> None:
    orders, attempts = InProcessOrders(), Attempts(None)
    await pay(policy, orders, attempts, "a")
    for route, facts in (("query", {"order_no": "N"}), ("refund", {"order_no": "R", "original_order_no": "N"})):
        found = await follow(policy, orders, attempts, route, **facts)
        assert isinstance(found, CheckContext)
        assert found.channel is not None
        assert (found.channel.name, found.begun_at_s) == ("a", NOW_S)
        assert found.ordered is not None
        assert (found.ordered.amount, found.ordered.currency) == (500, "CNY")


async def test_the_event_log_remembers_what_an_empty_store_does_not(policy: Policy, log: SqliteLog) -> None:
    attempts = Attempts(log)
    await pay(policy, InProcessOrders(), attempts, "a")
    found = await follow(policy, InProcessOrders(), attempts, "query", order_no="N")
    assert isinstance(found, CheckContext)
    assert found.channel is not None
    assert (found.channel.name, found.begun_at_s) == ("a", NOW_S)


async def test_a_repeat_tells_the_providers_the_first_time_again(policy: Policy, log: SqliteLog) -> None:
    adapted = replace(policy.channels["a"], adapted=True)
    attempts = Attempts(log)
    for number, orders in enumerate((InProcessOrders(), InProcessOrders())):  # the second one was restarted empty
        begun = context(policy, "pay", NOW_S + number, order_no="N").having(channel=adapted)
        passed = await OrderStep(orders, attempts)(begun)
        assert isinstance(passed, CheckContext)
        assert passed.begun_at_s == NOW_S


async def test_an_order_that_nobody_knows_is_not_guessed(policy: Policy, log: SqliteLog) -> None:
    found = await follow(policy, InProcessOrders(), Attempts(log), "query", order_no="N")
    assert isinstance(found, Denial)
    assert found.reason is Reason.ORDER_UNKNOWN


async def test_a_channel_that_the_route_has_not_is_refused(policy: Policy) -> None:
    orders, attempts = InProcessOrders(), Attempts(None)
    await pay(policy, orders, attempts, "b")
    found = await follow(policy, orders, attempts, "only-a", order_no="N")
    assert isinstance(found, Denial)
    assert found.reason is Reason.ORDER_CONFLICT
