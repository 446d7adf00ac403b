"""What the order step records, refuses and follows; and what the end of an exchange closes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from prometheus_client import CollectorRegistry

from ext_authz.check_context import CheckContext, Decision
from ext_authz.order_ends import OrderEnds, read_finish
from ext_authz.pipeline import Stores, build_pipeline, decide, in_process_stores
from ext_authz.wire import write_response
from paymesh.cli.demo.signing import HmacMerchant
from paymesh.payments import internal_names as names
from paymesh.payments.denial import Reason, Unavailable
from paymesh.payments.orders import Attempt, BeginAnswer, Finish, InProcessOrders, OrderStore, Settled
from paymesh.payments.policy.compiled import IdempotencyKey, Operation, Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.request import Request
from paymesh.server.access_log import Finished, read_entry

REPOSITORY = Path(__file__).resolve().parents[3]
NOW_S = int(time.time())
CARD = {"order_no": "A-1", "amount": {"total": 1000, "currency": "CNY"}, "product": "card"}


@pytest.fixture(scope="module")
def policy(demo_environ: dict[str, str]) -> Policy:
    return load_policy([REPOSITORY / "examples" / "demo"], demo_environ)


class Gate:
    def __init__(self, policy: Policy, keys: Path, stores: Stores | None = None) -> None:
        self.policy = policy
        self.stores = stores or in_process_stores()
        self.steps = build_pipeline(self.stores)
        self.merchant = HmacMerchant.from_file("teahouse-2026", keys / "hmac_card.key")
        self.count = 0

    async def pay(
        self, document: object = CARD, key: str | tuple[str, ...] | None = None, policy: Policy | None = None
    ) -> Decision:
        self.count += 1
        body = json.dumps(document).encode()
        signed = self.merchant.headers("POST", "/v1/payments", body, at_s=NOW_S)
        headers = {name.lower(): (value,) for name, value in {"content-type": "application/json", **signed}.items()}
        if key is not None:
            headers["idempotency-key"] = (key,) if isinstance(key, str) else key
        request = Request("POST", "/v1/payments", headers, body, f"id-{self.count}")
        return await decide(self.steps, CheckContext(request, policy or self.policy, NOW_S, monotonic_ns=1))

    async def ends(self, decision: Decision, finish: Finish = Finish.DONE) -> None:
        assert decision.context.caller is not None
        owner, attempt = decision.context.caller.merchant.id, decision.context.request.request_id
        await self.stores.orders.finish(owner, decision.context.order_keys, attempt, finish)


@pytest.fixture
def gate(policy: Policy, demo_keys: Path) -> Gate:
    return Gate(policy, demo_keys)


def reason(decision: Decision) -> Reason | None:
    return None if decision.denial is None else decision.denial.reason


async def test_in_progress_then_a_marked_repeat(gate: Gate) -> None:
    first = await gate.pay()
    assert reason(first) is None
    assert reason(await gate.pay()) is Reason.ORDER_IN_PROGRESS
    await gate.ends(first)
    again = await gate.pay()
    assert reason(again) is None
    assert again.context.replayed


async def test_another_amount_is_a_conflict_even_while_the_first_is_in_progress(gate: Gate) -> None:
    assert reason(await gate.pay()) is None
    assert reason(await gate.pay({**CARD, "amount": {"total": 2000}})) is Reason.ORDER_CONFLICT


async def test_what_is_not_decided_on_may_differ_in_a_repeat(gate: Gate) -> None:
    await gate.ends(await gate.pay({**CARD, "expires": "10:00"}))
    assert reason(await gate.pay({**CARD, "expires": "11:00"})) is None


@pytest.mark.parametrize(
    ("finish", "next_amount", "expected"),
    [
        (Finish.UNSENT, 2000, None),
        (Finish.REFUSED, 2000, None),
        (Finish.DONE, 2000, Reason.ORDER_CONFLICT),
    ],
)
async def test_how_it_ended_decides_what_may_follow(
    gate: Gate, finish: Finish, next_amount: int, expected: Reason | None
) -> None:
    await gate.ends(await gate.pay(), finish)
    assert reason(await gate.pay({**CARD, "amount": {"total": next_amount}})) is expected


async def test_a_repeat_follows_the_first_channel_though_another_would_be_chosen_now(gate: Gate) -> None:
    document = {**CARD, "product": "alipay_qr"}
    await gate.ends(await gate.pay(document))
    alipay = gate.policy.channels["alipay"]
    sooner = replace(alipay, name="sooner", priority=1)
    route = gate.policy.routes_by_name["payments"]
    changed = replace(
        gate.policy,
        channels={**gate.policy.channels, "sooner": sooner},
        routes=tuple(
            replace(one, channels=(sooner, *one.channels)) if one is route else one for one in gate.policy.routes
        ),
    )
    again = await gate.pay(document, policy=changed)
    assert reason(again) is None
    assert again.context.channel is alipay
    assert (await gate.pay({**document, "order_no": "A-2"}, policy=changed)).context.channel is sooner
    gone = replace(changed, channels={"sooner": sooner})
    await gate.ends(again)
    assert reason(await gate.pay(document, policy=gone)) is Reason.ORDER_CONFLICT


class TestIdempotencyKey:
    async def test_both_or_nothing(self, gate: Gate) -> None:
        await gate.ends(await gate.pay(key='"k"'))
        other = {**CARD, "order_no": "A-2"}
        assert reason(await gate.pay(other, key='"k"')) is Reason.ORDER_CONFLICT
        fresh = await gate.pay(other)
        assert (reason(fresh), fresh.context.replayed) == (None, False)

    @pytest.mark.parametrize("value", ["k", "", '"', '"a"b', "?1", '"é"', ('"a"', '"a"'), f'"{"x" * 256}"'])
    async def test_not_well_formed(self, gate: Gate, value: str | tuple[str, ...]) -> None:
        assert reason(await gate.pay(key=value)) is Reason.IDEMPOTENCY_KEY_INVALID

    async def test_where_it_is_required(self, gate: Gate) -> None:
        routes = tuple(replace(one, idempotency_key=IdempotencyKey.REQUIRED) for one in gate.policy.routes)
        required = replace(gate.policy, routes=routes)
        assert reason(await gate.pay(policy=required)) is Reason.IDEMPOTENCY_KEY_MISSING
        assert reason(await gate.pay(policy=required, key='"k"')) is None


class Slow(InProcessOrders):
    """A store whose answer is never heard."""

    async def begin(self, attempts: Sequence[Attempt], now_s: int) -> BeginAnswer:
        answer = await super().begin(attempts, now_s)
        await asyncio.sleep(10)
        return answer


async def test_a_check_that_envoy_gave_up_on_blocks_no_repeat(policy: Policy, demo_keys: Path) -> None:
    slow = Slow()
    gate = Gate(policy, demo_keys, replace(in_process_stores(), orders=slow))
    task = asyncio.create_task(gate.pay())
    await asyncio.sleep(0.05)
    assert await slow.find("teahouse", "pay:A-1", NOW_S) is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.01)
    assert await slow.find("teahouse", "pay:A-1", NOW_S) is None


class Gone(InProcessOrders):
    async def begin(self, attempts: Sequence[Attempt], now_s: int) -> BeginAnswer:
        raise Unavailable("gone")

    async def finish(self, owner: str, keys: Sequence[str], attempt_id: str, finish: Finish) -> None:
        raise Unavailable("gone")

    async def settle(self, owner: str, key: str, settled: Settled, now_s: int) -> None:
        raise Unavailable("gone")


async def test_without_the_store_nothing_is_paid(policy: Policy, demo_keys: Path) -> None:
    gate = Gate(policy, demo_keys, replace(in_process_stores(), orders=Gone()))
    assert reason(await gate.pay()) is Reason.UNAVAILABLE


# -- the end of an exchange ----------------------------------------------------------------------------------------


def exchange(decision: Decision | None, *, host: bool = True, outcome: str | None = None) -> Finished:
    """What the access log tells, by way of an entry as Envoy sends it."""
    found = accesslog_pb2.HTTPAccessLogEntry()
    common = found.common_properties
    if host:
        common.upstream_remote_address.socket_address.address = "127.0.0.1"
    if decision is not None:
        metadata = write_response(decision, None).dynamic_metadata
        common.metadata.filter_metadata[names.AUTHZ_FILTER].CopyFrom(metadata)
    if outcome is not None:
        common.metadata.filter_metadata[names.OUTCOME_NAMESPACE].update({names.META_OUTCOME: outcome})
    return read_entry(found)


@pytest.mark.parametrize(
    ("reached", "outcome", "expected"),
    [
        (True, "", Finish.DONE),
        (True, "succeeded", Finish.DONE),
        (True, "unknown", Finish.DONE),
        (True, "refused", Finish.REFUSED),
        (False, "", Finish.UNSENT),
        (False, "refused", Finish.UNSENT),
    ],
)
def test_only_what_is_certain_is_unsent_or_refused(reached: bool, outcome: str, expected: Finish) -> None:
    assert read_finish(replace(exchange(None), reached_service=reached, outcome=outcome)) is expected


async def test_the_end_closes_the_attempt_and_that_of_others_is_passed_over(gate: Gate) -> None:
    decision = await gate.pay()
    registry = CollectorRegistry()
    ends = OrderEnds(gate.stores.orders, registry)
    await ends.finished(exchange(None))
    assert reason(await gate.pay()) is Reason.ORDER_IN_PROGRESS
    await ends.finished(exchange(decision))
    again = await gate.pay()
    assert (reason(again), again.context.replayed) == (None, True)
    assert registry.get_sample_value("paymesh_ext_authz_attempts_closed_total", {"finish": "done"}) == 1


async def test_what_never_reached_a_service_is_as_if_it_had_not_begun(gate: Gate) -> None:
    ends = OrderEnds(gate.stores.orders, CollectorRegistry())
    await ends.finished(exchange(await gate.pay(), host=False))
    again = await gate.pay({**CARD, "amount": {"total": 2000}})
    assert (reason(again), again.context.replayed) == (None, False)


async def test_a_store_that_is_gone_leaves_the_attempt_to_its_lease(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    await OrderEnds(Gone(), registry).finished(exchange(await gate.pay()))
    assert [record.message for record in caplog.records] == ["attempt not closed: its lease ends it"]
    assert registry.get_sample_value("paymesh_ext_authz_attempts_closed_total", {"finish": "done"}) is None


class TestSettled:
    """Orders that are known here as paid or closed."""

    @pytest.fixture
    def asking(self, gate: Gate) -> Gate:
        route = replace(gate.policy.routes_by_name["payments"], open_order=True)
        routes = tuple(route if one.name == route.name else one for one in gate.policy.routes)
        gate.policy = replace(gate.policy, routes=routes, settles_orders=True)
        return gate

    async def ended(
        self, gate: Gate, decision: Decision, outcome: str, operation: str = "pay", orders: OrderStore | None = None
    ) -> None:
        found = exchange(decision, outcome=outcome)
        said = {**found.decision, names.META_OPERATION: operation}
        ends = OrderEnds(orders or gate.stores.orders, CollectorRegistry())
        await ends.finished(replace(found, decision=said))

    @pytest.mark.parametrize(
        ("outcome", "operation", "expected"),
        [
            ("succeeded", "pay", Reason.ORDER_PAID),
            ("succeeded", "query", Reason.ORDER_PAID),
            ("succeeded", "close", Reason.ORDER_CLOSED),
            ("accepted", "pay", None),
            ("unknown", "close", None),
        ],
    )
    async def test_what_the_answer_said_decides(
        self, asking: Gate, outcome: str, operation: str, expected: Reason | None
    ) -> None:
        await self.ended(asking, await asking.pay(), outcome, operation)
        assert reason(await asking.pay()) is expected

    async def test_a_refused_repeat_is_as_if_it_had_not_come(self, asking: Gate) -> None:
        await self.ended(asking, await asking.pay(), "succeeded")
        assert [reason(await asking.pay()) for _ in range(3)] == [Reason.ORDER_PAID] * 3
        changed = await asking.pay({**CARD, "amount": {"total": 2000}})
        assert reason(changed) is Reason.ORDER_CONFLICT

    async def test_an_older_idempotency_key_does_not_hide_what_is_known_of_the_order(self, asking: Gate) -> None:
        await asking.ends(await asking.pay(key='"k"'))
        second = await asking.pay()
        await asking.ends(second, Finish.REFUSED)
        await self.ended(asking, second, "succeeded", "close")
        assert reason(await asking.pay(key='"k"')) is Reason.ORDER_CLOSED

    async def test_what_the_store_could_not_take_is_logged_without_the_orders_number(
        self, asking: Gate, caplog: pytest.LogCaptureFixture
    ) -> None:
        await self.ended(asking, await asking.pay(), "succeeded", orders=Gone())
        told = [record for record in caplog.records if "not settled" in record.message]
        assert len(told) == 1
        assert CARD["order_no"] not in str(vars(told[0]))

    async def test_only_a_policy_that_asks_is_told_what_may_settle(self, asking: Gate, policy: Policy) -> None:
        named = write_response(await asking.pay(), None).dynamic_metadata
        assert named[names.META_SETTLES_ORDER] == "pay:A-1"
        deaf = replace(policy, settles_orders=False)
        unasked = write_response(await asking.pay({**CARD, "order_no": "A-2"}, policy=deaf), None)
        assert names.META_SETTLES_ORDER not in unasked.dynamic_metadata
        refused = await asking.pay()
        assert reason(refused) is Reason.ORDER_IN_PROGRESS
        assert names.META_SETTLES_ORDER not in write_response(refused, None).dynamic_metadata

    @pytest.mark.parametrize("operation", list(Operation))
    async def test_which_operations_may_settle_the_order_that_they_name(
        self, asking: Gate, operation: Operation
    ) -> None:
        decision = await asking.pay()
        assert decision.context.route is not None
        route = replace(decision.context.route, operation=operation)
        said = write_response(replace(decision, context=replace(decision.context, route=route)), None).dynamic_metadata
        settling = operation in (Operation.PAY, Operation.QUERY, Operation.CLOSE)
        assert (names.META_SETTLES_ORDER in said) is settling
        if settling:
            assert said[names.META_SETTLES_ORDER] == "pay:A-1"

    async def test_a_route_that_does_not_ask_marks_a_repeat(self, asking: Gate, policy: Policy) -> None:
        await self.ended(asking, await asking.pay(), "succeeded")
        again = await asking.pay(policy=policy)
        assert (reason(again), again.context.replayed) == (None, True)
