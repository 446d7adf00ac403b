"""An order stays on the version that it began on: what the access log teaches, when it is asked, what is sent."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from envoy.service.auth.v3 import external_auth_pb2
from prometheus_client import CollectorRegistry

from ext_authz import tries
from ext_authz.check_context import CheckContext, Decision
from ext_authz.learnt_versions import LearntVersions
from ext_authz.pipeline import build_pipeline, in_process_stores
from ext_authz.steps.order import ORDER_RECORD_S
from ext_authz.steps.version import VersionStep
from ext_authz.wire import read_request, upstream_headers
from paymesh.payments import internal_names as names
from paymesh.payments.credentials.claim import Authenticated
from paymesh.payments.denial import Unavailable
from paymesh.payments.fields.facts import OrderFacts
from paymesh.payments.money import Money
from paymesh.payments.order_versions import InProcessOrderVersions, OrderVersion, version_of_cluster
from paymesh.payments.policy.callers import Merchant, Scheme
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.request import Request
from paymesh.payments.split import split_value
from paymesh.payments.users.user import User
from paymesh.server.access_log import Finished

POLICY = """
services:
  - name: trade
    versions:
      - {name: v1, weight: 0, endpoints: [{address: 127.0.0.1, port: 1}]}
      - {name: v2, weight: 100, endpoints: [{address: 127.0.0.1, port: 2}]}
  - name: other
    versions:
      - {name: v1, weight: 50, endpoints: [{address: 127.0.0.1, port: 3}]}
      - {name: v2, weight: 50, endpoints: [{address: 127.0.0.1, port: 4}]}
  - {name: single, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 5}]}]}
channels:
  - {name: a, service: trade, operations: [pay, query, refund, close], priority: 2}
  - {name: b, service: other, operations: [pay, query, refund, close], priority: 1}
routes:
  - name: pay
    operation: pay
    match: {path: /pay, methods: [POST]}
    schemes: [hmac]
    fields: {order_no: /no, amount: /amount}
    channels: [a, b]
  - {name: query, operation: query, match: {path: /query}, schemes: [hmac], fields: {order_no: /no}, channels: [a, b]}
  - {name: close, operation: close, match: {path: /close}, schemes: [hmac], fields: {order_no: /no}, channels: [a, b]}
  - name: refund
    operation: refund
    match: {path: /refund}
    schemes: [hmac]
    fields: {order_no: /refund_no, original_order_no: /no, amount: /amount}
    channels: [a, b]
  - {name: by-service, operation: query, match: {path: /s}, schemes: [hmac], fields: {order_no: /no}, service: trade}
  - {name: bill, operation: bill, match: {path: /bill}, schemes: [hmac], service: trade}
"""
NOW_S = 1_790_000_000
V1 = OrderVersion("trade", "v1")
TRADE_STAYS = {names.ORDERS_STAY_EXTENSION + "trade": "v1"}
OTHER_STAYS = {names.ORDERS_STAY_EXTENSION + "other": "v1"}


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    return load_policy([file], {})


class Counting(InProcessOrderVersions):
    asked = 0

    async def find(self, owner: str, key: str, now_s: int) -> OrderVersion | None:
        self.asked += 1
        return await super().find(owner, key, now_s)


class Away(InProcessOrderVersions):
    away = True

    async def record(self, owner: str, key: str, version: OrderVersion, expires_at_s: int, now_s: int) -> None:
        if self.away:
            raise Unavailable("away")
        await super().record(owner, key, version, expires_at_s, now_s)

    async def find(self, owner: str, key: str, now_s: int) -> OrderVersion | None:
        if self.away:
            raise Unavailable("away")
        return await super().find(owner, key, now_s)


async def knowing(version: OrderVersion = V1) -> Counting:
    store = Counting()
    await store.record("shop", "pay:N", version, NOW_S + 60, NOW_S)
    return store


def context(policy: Policy, route: str, extensions: dict[str, str], channel: str | None = "a") -> CheckContext:
    request = Request("POST", f"/{route}", {}, b"", "id-1", extensions=extensions)
    numbers = {"order_no": "R", "original_order_no": "N"} if route == "refund" else {"order_no": "N"}
    return CheckContext(request, policy, NOW_S, 0).having(
        route=policy.routes_by_name[route],
        caller=Authenticated(Merchant("shop", {}), Scheme.HMAC, "key", proves={}),
        facts=OrderFacts(money=Money(500, "CNY"), **numbers),
        channel=None if channel is None else policy.channels[channel],
    )


async def stepped(store: InProcessOrderVersions, asking: CheckContext) -> CheckContext:
    found = await VersionStep(store)(asking)
    assert isinstance(found, CheckContext)
    return found


def sent(found: CheckContext) -> dict[str, str]:
    return dict(upstream_headers(Decision(found, None, ())))


@pytest.mark.parametrize(
    ("route", "channel"), [("pay", "a"), ("query", "a"), ("close", "a"), ("refund", "a"), ("by-service", None)]
)
async def test_an_order_stays_where_it_began(policy: Policy, route: str, channel: str | None) -> None:
    found = await stepped(await knowing(), context(policy, route, TRADE_STAYS, channel))
    assert sent(found)[names.VERSION_HEADER] == "v1"
    assert found.why == "trade v1 has the order"


@pytest.mark.parametrize("route", ["pay", "query", "close", "refund", "by-service"])
async def test_without_the_extension_nobody_is_asked(policy: Policy, route: str) -> None:
    store = await knowing()
    for extensions in ({}, {names.ROUTE_EXTENSION: route}, {names.ORDERS_STAY_EXTENSION + "single": "v1"}):
        found = await stepped(store, context(policy, route, extensions, None if route == "by-service" else "a"))
        assert names.VERSION_HEADER not in sent(found)
    assert store.asked == 0


async def test_another_channels_service_is_not_asked_about(policy: Policy) -> None:
    store = await knowing()
    await stepped(store, context(policy, "query", OTHER_STAYS))
    assert store.asked == 0


async def test_what_is_about_no_order_asks_nobody(policy: Policy) -> None:
    store = await knowing()
    numberless = context(policy, "query", TRADE_STAYS).having(facts=OrderFacts())
    nobodys = context(policy, "by-service", TRADE_STAYS, None).having(caller=None)
    for asking in (numberless, nobodys, context(policy, "bill", TRADE_STAYS, None)):
        assert names.VERSION_HEADER not in sent(await stepped(store, asking))
    assert store.asked == 0


@pytest.mark.parametrize("route", ["pay", "query"])
async def test_a_new_or_unknown_order_goes_by_the_split(policy: Policy, route: str) -> None:
    store = Counting()
    found = await stepped(store, context(policy, route, TRADE_STAYS))
    assert names.VERSION_HEADER not in sent(found)
    assert store.asked == 1
    other = context(policy, route, TRADE_STAYS).having(
        caller=Authenticated(Merchant("stall", {}), Scheme.HMAC, "key", proves={})
    )
    assert names.VERSION_HEADER not in sent(await stepped(await knowing(), other))


@pytest.mark.parametrize("route", ["pay", "query", "refund"])
@pytest.mark.parametrize(
    ("began", "listed", "why"),
    [
        (OrderVersion("trade", "v2"), "v1", "trade v2 has the order, and does not stay for it"),
        (OrderVersion("trade", "v1"), "v2", "trade v1 has the order, and does not stay for it"),
        (OrderVersion("single", "v1"), "v1", "the order began at another service: single"),
    ],
)
async def test_only_a_version_that_stays_is_sent(
    policy: Policy, route: str, began: OrderVersion, listed: str, why: str
) -> None:
    extensions = {names.ORDERS_STAY_EXTENSION + "trade": listed}
    found = await stepped(await knowing(began), context(policy, route, extensions))
    assert names.VERSION_HEADER not in sent(found)
    assert found.why == why


async def test_of_several_that_stay_the_orders_own_is_sent(policy: Policy) -> None:
    for version in ("v1", "v2"):
        extensions = {names.ORDERS_STAY_EXTENSION + "trade": "v1,v2"}
        found = await stepped(await knowing(OrderVersion("trade", version)), context(policy, "query", extensions))
        assert sent(found)[names.VERSION_HEADER] == version


async def test_a_version_that_the_policy_has_no_more_is_not_sent(policy: Policy) -> None:
    gone = OrderVersion("trade", "v0")
    for listed, asked in (("v0", 0), ("v0,v1", 1)):
        store = await knowing(gone)
        found = await stepped(store, context(policy, "query", {names.ORDERS_STAY_EXTENSION + "trade": listed}))
        assert names.VERSION_HEADER not in sent(found)
        assert store.asked == asked


async def test_a_repeat_whose_channel_only_the_order_step_finds(policy: Policy) -> None:
    """Today the strategies choose b; the first attempt went through a, on trade's v1."""
    store = await knowing()
    found = await stepped(store, context(policy, "pay", {**TRADE_STAYS, **OTHER_STAYS}, "b"))
    assert names.VERSION_HEADER not in sent(found)  # other's v1 is not trade's
    assert sent(found.having(channel=policy.channels["a"]))[names.VERSION_HEADER] == "v1"


async def test_it_is_closed_while_the_store_is_away_but_only_where_it_is_asked(policy: Policy) -> None:
    step = VersionStep(Away())
    for route in ("pay", "query", "refund"):
        with pytest.raises(Unavailable):
            await step(context(policy, route, TRADE_STAYS))
        assert isinstance(await step(context(policy, route, {})), CheckContext)


def test_nothing_is_begun_before_its_store_has_answered() -> None:
    order = [step.name for step in build_pipeline(in_process_stores())]
    assert order.index("channel") < order.index("version") < order.index("order")


def test_the_extension_salts_the_split(policy: Policy) -> None:
    plain = sent(context(policy, "query", {}))[names.SPLIT_HEADER]
    assert plain == split_value("trade", "shop", "id-1")
    for extensions, salt in (
        ({names.SALT_EXTENSION + "trade": "trade-v2"}, "trade-v2"),
        ({names.SALT_EXTENSION + "trade": ""}, ""),
        ({names.SALT_EXTENSION + "other": "other-v2"}, "trade"),
    ):
        found = sent(context(policy, "query", extensions))[names.SPLIT_HEADER]
        assert found == split_value(salt, "shop", "id-1")
    salted = sent(context(policy, "query", {names.SALT_EXTENSION + "trade": "trade-v2"}))[names.SPLIT_HEADER]
    assert salted != plain
    assert salted == sent(context(policy, "refund", {names.SALT_EXTENSION + "trade": "trade-v2"}))[names.SPLIT_HEADER]


def test_the_routes_extensions_are_read() -> None:
    message = external_auth_pb2.CheckRequest()
    assert read_request(message).extensions == {}
    told = {names.ROUTE_EXTENSION: "pay", names.SALT_EXTENSION + "trade": "s", **TRADE_STAYS}
    message.attributes.context_extensions.update(told)
    assert read_request(message).extensions == told


def paid(cluster: str = "trade|v1", *, reached: bool = True, **said: str | None) -> Finished:
    decision = {
        names.META_DECISION: names.DECISION_ALLOW,
        names.META_OPERATION: "pay",
        names.META_MERCHANT: "shop",
        names.META_ORDER_KEYS: "pay:N\nidempotency:k",
        **said,
    }
    told = {key: value for key, value in decision.items() if value is not None}
    return Finished("id", 200, frozenset(), 0.1, 0.1, cluster, reached, told, "")


async def learnt(policy: Policy, *exchanges: Finished) -> OrderVersion | None:
    store = InProcessOrderVersions()
    listener = LearntVersions(store, lambda: policy, CollectorRegistry())
    for exchange in exchanges:
        await listener.finished(exchange)
    return await store.find("shop", "pay:N", int(time.time()))


async def test_where_a_payment_went_is_learnt(policy: Policy) -> None:
    assert await learnt(policy, paid()) == V1
    assert await learnt(policy, paid(**{names.META_ORDER_KEYS: "pay:N"})) == V1
    assert await learnt(policy, replace(paid(), outcome="refused", status=502)) == V1  # the service has seen it


@pytest.mark.parametrize(
    "exchange",
    [
        paid(reached=False),
        paid(""),
        paid("trade"),
        paid("trade|v1|other"),
        paid("trade|v9"),
        paid("unknown|v1"),
        paid("single|v1"),
        paid(**{names.META_OPERATION: "query"}),
        paid(**{names.META_OPERATION: "refund", names.META_ORDER_KEYS: "refund:N"}),
        paid(**{names.META_ORDER_KEYS: "idempotency:pay:N"}),
        paid(**{names.META_ORDER_KEYS: None}),
        paid(**{names.META_MERCHANT: None}),
    ],
)
async def test_nothing_else_is(policy: Policy, exchange: Finished) -> None:
    assert await learnt(policy, exchange) is None


async def test_a_later_attempt_changes_nothing(policy: Policy) -> None:
    assert await learnt(policy, paid("trade|v2", reached=False), paid(), paid("trade|v2"), paid("other|v2")) == V1


async def test_it_is_kept_as_long_as_its_order(policy: Policy) -> None:
    store = InProcessOrderVersions()
    began_s = int(time.time())
    await LearntVersions(store, lambda: policy, CollectorRegistry()).finished(paid())
    assert await store.find("shop", "pay:N", began_s + ORDER_RECORD_S) == V1
    assert await store.find("shop", "pay:N", began_s + ORDER_RECORD_S + 60) is None


def test_an_order_could_go_to_no_other_version_of_a_single_one(policy: Policy) -> None:
    assert version_of_cluster("single|v1", policy) is None
    assert version_of_cluster("other|v2", policy) == OrderVersion("other", "v2")


async def test_what_the_store_does_not_take_is_told_again(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "AGAIN_S", (0.01,) * 500)
    store = Away()
    listener = LearntVersions(store, lambda: policy, CollectorRegistry())
    await listener.finished(paid())
    store.away = False
    async with asyncio.timeout(10):
        while await store.find("shop", "pay:N", int(time.time())) != V1:
            await asyncio.sleep(0.01)
    await listener.close()


async def test_at_last_it_is_lost_and_counted(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "AGAIN_S", (0.0, 0.0))
    registry = CollectorRegistry()
    await LearntVersions(Away(), lambda: policy, registry).finished(paid())
    async with asyncio.timeout(10):
        while registry.get_sample_value("paymesh_ext_authz_order_versions_lost_total") != 1:
            await asyncio.sleep(0)


async def test_a_pinned_merchant_goes_where_the_release_says_unless_its_order_stays(policy: Policy) -> None:
    pinned = {names.PINNED_EXTENSION + "trade": "v2=shop,other"}
    assert sent(context(policy, "pay", pinned))[names.VERSION_HEADER] == "v2"
    assert (
        sent(await stepped(await knowing(), context(policy, "pay", {**pinned, **TRADE_STAYS})))[names.VERSION_HEADER]
        == "v1"
    )
    for extensions in ({names.PINNED_EXTENSION + "trade": "v2=other"}, {names.PINNED_EXTENSION + "single": "v2=shop"}):
        assert names.VERSION_HEADER not in sent(context(policy, "pay", extensions))


def test_without_a_merchant_the_person_stays_on_one_version(policy: Policy) -> None:
    route = policy.routes_by_name["by-service"]

    def split(request_id: str, user: User | None) -> str:
        request = Request("POST", "/by-service", {}, b"", request_id)
        asking = CheckContext(request, policy, NOW_S, 0).having(route=route, user=user)
        return sent(asking)[names.SPLIT_HEADER]

    ann, bob = (User(name, "oidc", NOW_S + 60) for name in ("ann", "bob"))
    assert split("id-1", ann) == split("id-2", ann) != split("id-1", bob)
    assert split("id-1", None) != split("id-2", None)
