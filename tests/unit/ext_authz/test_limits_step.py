"""What each dimension and kind of a limit asks for, when, and what a request that does not leave gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ext_authz.check_context import CheckContext
from ext_authz.pipeline import build_pipeline, decide, in_process_stores
from ext_authz.steps.limits import LimitsStep
from paymesh.payments.credentials.claim import Authenticated
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.fields.facts import OrderFacts
from paymesh.payments.limits.demands import Demand, Exhausted, Instant, Quota, Slot, Taken, Tokens, Used
from paymesh.payments.limits.latency import LatencySettings
from paymesh.payments.limits.overrides import LimitOverride
from paymesh.payments.limits.sizing import in_process_sizes
from paymesh.payments.money import Money
from paymesh.payments.policy.callers import Merchant, Scheme, TokenRate
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.rate_limits import Dimension, KeyPart, LimitKind, LimitMode, OnError, RateLimit
from paymesh.payments.request import Request
from paymesh.payments.users.user import User

NOW_S = 1_790_000_000
RATE = (TokenRate(5, 1, 9),)
SHOP = Merchant("shop", {})
REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass
class Asked:
    """A LimitStore that remembers what it was asked."""

    demands: list[Demand] = field(default_factory=list)
    calls: int = 0
    refuses: bool = False

    async def take(self, demands: Sequence[Demand], request_id: str, now: Instant) -> Taken:
        self.calls += 1
        self.demands = list(demands)
        if self.refuses:
            return Taken(Exhausted(demands[-1], 7))
        return Taken(held=("s key",), shadowed=(demands[0],) if not demands[0].enforced else ())

    async def end(self, request_id: str, held: Sequence[str] | None, *, carried_out: bool, now: Instant) -> None: ...

    async def look(self, demands: Sequence[Demand], now: Instant) -> list[Used]:
        return []


@pytest.fixture(scope="module")
def policy(demo_environ: dict[str, str]) -> Policy:
    return load_policy([REPOSITORY / "examples" / "demo"], demo_environ)


def context(
    policy: Policy, *limits: RateLimit, merchant: Merchant = SHOP, late: bool = False, **facts: object
) -> CheckContext:
    route = replace(policy.routes_by_name["payments"], rate_limits=limits, limits_known_late=late, timeout_ms=4_100)
    headers = {"x-app": ("a", "b")}
    request = Request("POST", "/v1/payments", headers, b"", "id-1", client_address="203.0.113.9")
    caller = Authenticated(
        merchant, Scheme.JWT, "key", proves={"app_id": "proven-app"}, claims={"tenant": "north", "level": 3}
    )
    begun = CheckContext(request, policy, NOW_S, 5_000_000_000, route=route, caller=caller)
    return begun.having(
        user=User("u/1", "idp", NOW_S + 60),
        channel=policy.channels["card"],
        document={"payer": {"id": "p-1"}},
        facts=OrderFacts("order", Money(1_234, "CNY")),
        **facts,
    )


def by(dimension: Dimension, name: str = "", pointer: tuple[str, ...] = (), **more: object) -> RateLimit:
    return RateLimit("limit", RATE, key=(KeyPart(dimension, name, pointer),), **more)  # type: ignore[arg-type]


async def demanded(policy: Policy, limit: RateLimit, **more: object) -> list[Demand]:
    store = Asked()
    after = await LimitsStep(store, in_process_sizes())(context(policy, limit, **more))  # type: ignore[arg-type]
    assert isinstance(after, CheckContext)
    return store.demands


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        (by(Dimension.MERCHANT), "shop"),
        (by(Dimension.USER), "idp:u%2F1"),
        (by(Dimension.ROUTE), "payments"),
        (by(Dimension.OPERATION), "pay"),
        (by(Dimension.CHANNEL), "card"),
        (by(Dimension.SERVICE), "card"),
        (by(Dimension.VERSION), "v1"),
        (by(Dimension.APP), "proven-app"),
        (by(Dimension.CLIENT_IP), "203.0.113.9"),
        (by(Dimension.HEADER, "x-app"), "a,b"),
        (by(Dimension.HEADER, "x-none"), ""),
        (by(Dimension.CLAIM, "tenant"), "north"),
        (by(Dimension.CLAIM, "level"), "3"),
        (by(Dimension.CLAIM, "none"), ""),
        (by(Dimension.FIELD, "/payer/none", ("payer", "none")), ""),
    ],
    ids=lambda value: str(getattr(value, "key", value)),
)
async def test_a_limit_counts_by_its_dimension(policy: Policy, limit: RateLimit, value: str) -> None:
    assert await demanded(policy, limit) == [Tokens(key=("limit", value), rate=RATE[0])]


async def test_of_a_field_only_the_digest_is_used(policy: Policy) -> None:
    (demand,) = await demanded(policy, by(Dimension.FIELD, "/payer/id", ("payer", "id")))
    assert len(demand.key[1]) == 64
    assert "p-1" not in demand.key[1]


async def test_every_window_is_asked_and_modes_are_handed_on(policy: Policy) -> None:
    windows = (TokenRate(5, 1, 9), TokenRate(100, 60, 100))
    limit = RateLimit("limit", windows, mode=LimitMode.SHADOW, on_error=OnError.DENY, count_refused=True, batch=7)
    demands = await demanded(policy, limit)
    assert [demand.rate for demand in demands if isinstance(demand, Tokens)] == list(windows)
    assert {(one.enforced, one.on_error) for one in demands} == {(False, OnError.DENY)}
    assert {(one.count_refused, one.batch) for one in demands if isinstance(one, Tokens)} == {(True, 7)}


async def test_a_slot_lasts_as_long_as_the_request_may_and_ten_seconds(policy: Policy) -> None:
    limit = RateLimit("limit", 3, LimitKind.CONCURRENCY)
    assert await demanded(policy, limit) == [Slot(key=("limit", "shop"), max=3, lease_s=15)]


async def test_a_daily_amount_costs_the_payment_in_its_own_currency(policy: Policy) -> None:
    limit = RateLimit("limit", 10**9, LimitKind.DAILY_AMOUNT, day_begins_s=28_800)
    assert await demanded(policy, limit) == [Quota(key=("limit", "shop"), max=10**9, cost=1_234, day_begins_s=28_800)]
    other = replace(limit, currency="USD")
    store = Asked()
    after = await LimitsStep(store, in_process_sizes())(context(policy, other))
    assert isinstance(after, CheckContext)
    assert store.calls == 0


async def test_sizes_an_override_before_the_merchants_own_before_its_tiers(policy: Policy) -> None:
    tiers = {"gold": (TokenRate(50, 1, 50),)}
    limit = RateLimit("limit", RATE, tiers=tiers)
    own = Merchant("shop", {"limit": (TokenRate(7, 1, 7),)}, tier="gold")
    golden, other = Merchant("shop", {}, tier="gold"), Merchant("shop", {}, tier="silver")
    found = [(await demanded(policy, limit, merchant=one))[0] for one in (own, golden, other)]
    assert [one.rate.tokens for one in found if isinstance(one, Tokens)] == [7, 50, 5]
    store, sizes = Asked(), in_process_sizes()
    sizes.overrides.replace([LimitOverride(("limit", "shop"), (TokenRate(9, 1, 9),), NOW_S + 1, "x", "ann", NOW_S)])
    await LimitsStep(store, sizes)(context(policy, limit, merchant=own))
    assert store.demands == [Tokens(key=("limit", "shop"), rate=TokenRate(9, 1, 9))]


async def test_all_of_a_request_are_asked_in_one_call_early_or_late(policy: Policy) -> None:
    limits = (by(Dimension.MERCHANT), by(Dimension.CHANNEL))
    for late in (False, True):
        for step_late in (False, True):
            store = Asked()
            step = LimitsStep(store, in_process_sizes(), late=step_late)
            after = await step(context(policy, *limits, late=late))
            assert isinstance(after, CheckContext)
            assert store.calls == (step_late is late)
            assert len(store.demands) == (2 if step_late is late else 0)
            assert after.held == (("s key",) if step_late is late else ())


@pytest.mark.parametrize(
    ("limit", "quota", "window_s", "detail"),
    [
        (RateLimit("limit", RATE), 9, 2, "limit: 5/s, burst 9"),
        (RateLimit("limit", (TokenRate(6, 60, 9),)), 9, 90, "limit: 6/60s, burst 9"),
        (RateLimit("limit", 3, LimitKind.CONCURRENCY), 3, None, "limit: 3 at once"),
        (RateLimit("limit", 4, LimitKind.DAILY_COUNT), 4, 86_400, "limit: 4 a day"),
    ],
)
async def test_what_is_told_of_a_refusal(
    policy: Policy, limit: RateLimit, quota: int, window_s: int | None, detail: str
) -> None:
    refused = await LimitsStep(Asked(refuses=True), in_process_sizes())(context(policy, limit))
    assert isinstance(refused, Denial)
    assert (refused.reason, refused.retry_after_s, refused.detail) == (Reason.RATE_LIMITED, 7, detail)
    assert refused.limit is not None
    assert (refused.limit.quota, refused.limit.window_s) == (quota, window_s)


async def test_a_latency_limit_is_timed_by_its_service(policy: Policy) -> None:
    parts = (KeyPart(Dimension.MERCHANT), KeyPart(Dimension.SERVICE))
    limit = RateLimit("slow", RATE, LimitKind.LATENCY, key=parts, latency=LatencySettings(300))
    after = await LimitsStep(Asked(), in_process_sizes())(context(policy, limit))
    assert isinstance(after, CheckContext)
    assert after.timed == ("slow card",)


async def test_the_whole_pipeline_refuses_a_second_payment_of_the_day(policy: Policy) -> None:
    """With everything in process: what a late limit refuses, no order remembers."""
    stores = in_process_stores()
    limit = RateLimit("amount", 2_000, LimitKind.DAILY_AMOUNT)
    seen = []
    for _ in range(2):
        late = [step for step in build_pipeline(stores) if isinstance(step, LimitsStep)]
        decision = await decide(late, context(policy, limit, late=True))
        seen.append(None if decision.denial is None else decision.denial.reason)
    assert seen == [None, Reason.RATE_LIMITED]
