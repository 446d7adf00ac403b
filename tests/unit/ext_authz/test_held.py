"""What the end of an exchange gives back, and what it says of a service's latency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ext_authz import tries
from ext_authz.held import Held, ServiceTimes
from paymesh.payments import internal_names as names
from paymesh.payments.denial import Unavailable
from paymesh.payments.limits.demands import Instant, LimitStore, Quota, Slot
from paymesh.payments.limits.in_process import InProcessLimits
from paymesh.payments.limits.latency import InProcessLatencies, LatencySettings
from paymesh.payments.limits.latency_guard import LatencyGuard
from paymesh.payments.outcome import Outcome
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.rate_limits import LimitKind, RateLimit
from paymesh.server.access_log import Finished

REPOSITORY = Path(__file__).resolve().parents[3]
SLOT, QUOTA = Slot(key=("s", "m"), max=5, lease_s=600), Quota(key=("q", "m"), max=100, cost=10)
HELD = {names.META_DECISION: "allow", names.META_HELD: "in_process"}


@pytest.fixture(scope="module")
def policy(demo_environ: dict[str, str]) -> Policy:
    loaded = load_policy([REPOSITORY / "examples" / "demo"], demo_environ)
    return replace(loaded, holds_slots=True)


def exchange(
    decision: dict[str, str], *flags: str, reached: bool = True, outcome: str = "", **more: float | None
) -> Finished:
    took = {"duration_s": 0.5, "service_s": 0.4} | more
    return Finished(
        "r",
        200,
        frozenset(flags),
        upstream_cluster="c",
        reached_service=reached,
        decision=decision,
        outcome=outcome,
        **took,
    )  # type: ignore[arg-type]


def now() -> Instant:
    return Instant(time.monotonic_ns(), int(time.time()))


async def used(store: LimitStore) -> list[int]:
    return [one.used for one in await store.look([SLOT, QUOTA], now())]


@pytest.mark.parametrize(
    ("ended", "left"),
    [
        (exchange(HELD), [0, 10]),
        (exchange(HELD, outcome=Outcome.SUCCEEDED), [0, 10]),
        (exchange(HELD, outcome=Outcome.REFUSED), [0, 0]),
        (exchange(HELD, "UF", reached=False), [0, 0]),
        (exchange(HELD, "UC"), [0, 10]),
        (exchange({**HELD, names.META_REPLAYED: "true"}), [0, 0]),
        (exchange({}, "DC", reached=False), [0, 0]),
        (exchange({}, "UAEX", reached=False), [0, 0]),
        (exchange({}, "NR", reached=False), [1, 10]),
        (exchange({}, reached=False), [1, 10]),
        (exchange({names.META_DECISION: "allow"}), [1, 10]),
    ],
    ids=lambda value: str(value) if isinstance(value, list) else f"{sorted(value.decision)} {sorted(value.flags)}",
)
async def test_an_end_gives_back(policy: Policy, ended: Finished, left: list[int]) -> None:
    store = InProcessLimits()
    await store.take([SLOT, QUOTA], "r", now())
    await Held(store, lambda: policy, CollectorRegistry()).finished(ended)
    assert await used(store) == left


async def test_a_void_request_holds_nothing_even_if_it_takes_later(policy: Policy) -> None:
    store = InProcessLimits()
    held = Held(store, lambda: policy, CollectorRegistry())
    held.void("r")
    await held.close()
    await store.take([SLOT, QUOTA], "r", now())
    assert await used(store) == [0, 0]


class Away(InProcessLimits):
    """Cannot be told of an end while `away`."""

    away = True

    async def end(self, request_id: str, held: Sequence[str] | None, *, carried_out: bool, now: Instant) -> None:
        if self.away:
            raise Unavailable("away")
        await super().end(request_id, held, carried_out=carried_out, now=now)


async def test_what_the_store_does_not_take_is_told_again(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "AGAIN_S", (0.01,) * 500)
    store, registry = Away(), CollectorRegistry()
    held = Held(store, lambda: policy, registry)
    await store.take([SLOT, QUOTA], "r", now())
    await held.finished(exchange(HELD))
    assert await used(store) == [1, 10]
    assert registry.get_sample_value("paymesh_ext_authz_limits_ends_waiting") == 1
    store.away = False
    async with asyncio.timeout(10):
        while await used(store) != [0, 10]:
            await asyncio.sleep(0.01)
    assert registry.get_sample_value("paymesh_ext_authz_limits_returned_total", {"told_by": "entry"}) == 1
    await held.close()


async def test_at_last_it_is_left_to_the_lease(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "AGAIN_S", (0.0, 0.0))
    registry = CollectorRegistry()
    held = Held(Away(), lambda: policy, registry)
    await held.finished(exchange(HELD))
    async with asyncio.timeout(10):
        while registry.get_sample_value("paymesh_ext_authz_limits_left_to_lease_total") != 1:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("ended", "share"),
    [
        (exchange({}, service_s=0.4), 8_000),
        (exchange({}, service_s=0.3), 10_000),
        (exchange({}, "UT", service_s=None), 8_000),
        (exchange({}, "DC", service_s=None), 10_000),
        (exchange({}, "UF", service_s=None), 10_000),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else f"{value.service_s} {sorted(value.flags)}",
)
async def test_what_an_exchange_says_of_latency(policy: Policy, ended: Finished, share: int) -> None:
    slow = LatencySettings(300, window_s=0, min_samples=1)
    limit = RateLimit("slow", (), LimitKind.LATENCY, latency=slow)
    route = replace(policy.routes_by_name["payments"], rate_limits=(limit,))
    timed = replace(policy, routes_by_name={"payments": route})
    guard, registry = LatencyGuard(InProcessLatencies()), CollectorRegistry()
    decision = {names.META_ROUTE: "payments", names.META_TIMED: "slow card\ngone card"}
    await ServiceTimes(guard, lambda: timed, registry).finished(replace(ended, decision=decision))
    guard.share_wanted(("slow", "card"), slow)
    await guard.exchange()
    assert guard.share(("slow", "card")) == share
    value = registry.get_sample_value("paymesh_ext_authz_limit_share", {"limit": "slow", "of": "card"})
    assert value == share / 10_000
