"""What the end of an exchange says of its channel, what is counted of it, and what the channel step makes of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ext_authz.attempts import Attempts
from ext_authz.channel_outcomes import ChannelOutcomes
from ext_authz.check_context import CheckContext
from ext_authz.steps.channel import ChannelStep
from paymesh.payments import internal_names as names
from paymesh.payments.channels.guard import ChannelGuard
from paymesh.payments.channels.health import InProcessChannelHealth, NothingKnown
from paymesh.payments.credentials.claim import Authenticated
from paymesh.payments.denial import Denial, Reason, Unavailable
from paymesh.payments.fields.facts import OrderFacts
from paymesh.payments.money import Money
from paymesh.payments.orders import InProcessOrders
from paymesh.payments.outcome import Fault, Outcome
from paymesh.payments.policy.callers import Merchant, Scheme
from paymesh.payments.policy.channel_rules import Eliminate, Elimination, Strategy, Watch
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.request import Request
from paymesh.server.access_log import Finished
from paymesh.server.service_fault import service_works

REPOSITORY = Path(__file__).resolve().parents[3]
WATCH = Watch(60, 20, Elimination(3, None, 10, 5))
OUT = Eliminate(WATCH, probe_share=100, try_when_all_out=False)


@pytest.fixture(scope="module")
def policy(demo_environ: dict[str, str]) -> Policy:
    return load_policy([REPOSITORY / "examples" / "demo"], demo_environ)


def finished(
    outcome: str = "",
    fault: str = "",
    *,
    status: int = 200,
    flags: str = "",
    reached: bool = True,
    decision: dict[str, str] | None = None,
) -> Finished:
    said = {
        names.META_DECISION: names.DECISION_ALLOW,
        names.META_OPERATION: "pay",
        names.META_CHANNEL: "card",
    }
    return Finished(
        "id", status, frozenset(flags.split()), 0.1, 0.1, "card|v1", reached, {**said, **(decision or {})}, outcome,
        fault=fault,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("exchange", "works"),
    [
        (finished(Outcome.SUCCEEDED, Fault.NONE), True),
        (finished(Outcome.ACCEPTED, Fault.NONE), True),
        (finished(Outcome.REFUSED, Fault.PAYER), None),
        (finished(Outcome.REFUSED, Fault.MERCHANT, status=400), None),
        (finished(Outcome.REFUSED, Fault.CHANNEL), False),
        (finished(Outcome.REFUSED), None),
        (finished(Outcome.UNKNOWN, Fault.CHANNEL, status=502), False),
        (finished(Outcome.UNKNOWN, Fault.NONE), None),
        (finished(Outcome.UNKNOWN, Fault.MERCHANT, status=409), None),
        (finished(status=503), False),
        (finished(status=200), None),
        (finished(status=404), None),
        (finished(status=504, flags="UT"), False),
        (finished(status=0, flags="DC"), None),
        (finished(status=200, flags="UPE"), False),
        (finished(status=503, flags="UF", reached=False), False),
        (finished(status=503, flags="UH", reached=False), False),
        (finished(status=503, flags="UO", reached=False), False),
        (finished(status=0, flags="DC", reached=False), None),
        (finished(status=404, flags="NR", reached=False), None),
        (finished(status=429, flags="RL", reached=False), None),
    ],
)
def test_what_an_end_says(exchange: Finished, works: bool | None) -> None:
    assert service_works(exchange) is works


async def test_only_payments_through_a_channel_count(policy: Policy) -> None:
    registry, policy = CollectorRegistry(), replace(policy, channel_watches={"card": (WATCH,)})
    guard = ChannelGuard(InProcessChannelHealth(), lambda: policy.channel_watches)
    listener = ChannelOutcomes(guard, lambda: policy, registry)
    for decision in (
        {names.META_DECISION: names.DECISION_DENY},
        {names.META_OPERATION: "refund"},
        {names.META_CHANNEL: "no channel of the policy"},
        {names.META_CHANNEL: ""},
    ):
        await listener.finished(finished(Outcome.SUCCEEDED, Fault.NONE, decision=decision))
    await guard.exchange()
    assert guard.standings(WATCH)["card"].recent == (0, 0)
    for exchange in (
        finished(Outcome.SUCCEEDED, Fault.NONE),
        finished(Outcome.REFUSED, Fault.PAYER),
        finished(Outcome.UNKNOWN, Fault.CHANNEL),
    ):
        await listener.finished(exchange)
    await guard.exchange()
    assert guard.standings(WATCH)["card"].recent == (1, 1)
    for says in ("works", "fails", "nothing"):
        labels = {"channel": "card", "says": says}
        assert registry.get_sample_value("paymesh_ext_authz_channel_outcomes_total", labels) == 1
    window = {"channel": "card", "window_s": "60"}
    assert registry.get_sample_value("paymesh_ext_authz_channel_success_ratio", window) == 0.5
    assert registry.get_sample_value("paymesh_ext_authz_channel_out", {"channel": "card"}) == 0
    for _ in range(3):
        await listener.finished(finished(Outcome.UNKNOWN, Fault.CHANNEL))
    await guard.exchange()
    assert registry.get_sample_value("paymesh_ext_authz_channel_out", {"channel": "card"}) == 1


def context(policy: Policy, *strategies: Strategy, product: str = "card", now_s: int = 1_790_000_000) -> CheckContext:
    route = replace(policy.routes_by_name["payments"], channel_selection=strategies)
    begun = CheckContext(Request("POST", "/v1/payments", {}, b"", "id-1"), policy, now_s, 0, route=route)
    caller = Authenticated(Merchant("shop", {}), Scheme.HMAC, "key", proves={})
    return begun.having(caller=caller, facts=OrderFacts("ORD", Money(500, "CNY"), product))


async def test_a_payment_that_no_channel_may_take_is_refused(policy: Policy) -> None:
    denial = await ChannelStep(NothingKnown(), InProcessOrders(), Attempts(None))(
        context(policy, product="none of them")
    )
    assert isinstance(denial, Denial)
    assert denial.reason is Reason.CHANNEL_NONE
    assert "card: does not take this product" in denial.detail


async def test_channels_that_are_all_out_are_an_outage(policy: Policy) -> None:
    guard = ChannelGuard(InProcessChannelHealth(), lambda: {"card": (WATCH,)})
    step = ChannelStep(guard, InProcessOrders(), Attempts(None))
    passed = await step(context(policy, OUT))
    assert isinstance(passed, CheckContext)
    assert passed.channel is not None
    assert passed.channel.name == "card"
    for _ in range(3):
        guard.observe("card", worked=False)
    await guard.exchange()
    with pytest.raises(Unavailable, match="card: is out"):
        await step(context(policy, OUT))
