"""What the access log told of each version is counted once, under its version, for as long as it is asked about."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from control_plane.releases.observed import SAMPLE_S, SAMPLES, Observed
from control_plane.releases.recent_merchants import KEPT_MINUTES, RecentMerchants
from control_plane.releases.recent_merchants import MAX_CURRENCIES as MAX_RECENT_CURRENCIES
from control_plane.releases.version_counts import BOUNDS_MS, KEPT_S, MAX_CURRENCIES, Sample
from paymesh.payments import internal_names as names
from paymesh.payments.money import Money
from paymesh.payments.outcome import Fault, Outcome
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.releases.analysis import Counted
from paymesh.payments.releases.checks import Counting
from paymesh.payments.releases.exposure import Exposure, Recent
from paymesh.server.access_log import Finished

POLICY = """
services:
  - name: trade
    versions:
      - {name: v1, weight: 100, endpoints: [{address: 10.0.0.1, port: 1}]}
      - {name: v2, weight: 0, endpoints: [{address: 10.0.0.2, port: 1}]}
  - name: single
    versions: [{name: v1, endpoints: [{address: 10.0.0.3, port: 1}]}]
"""
WITHOUT_TRADE = "services: [{name: single, versions: [{name: v1, endpoints: [{address: 10.0.0.3, port: 1}]}]}]\n"
BEGAN_S = 1_000_000_020
"""The first second of a minute, and of a sample."""
WHOLE = KEPT_S + 1


def read(folder: Path, text: str) -> Policy:
    file = folder / "policy.yaml"
    file.write_text(text)
    return load_policy([file], {})


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return read(tmp_path_factory.mktemp("observed"), POLICY)


class Clock:
    now_s = BEGAN_S

    def __call__(self) -> int:
        return self.now_s


class Log:
    """An `Observed` and its clock."""

    def __init__(self, policy: Policy) -> None:
        self.clock = Clock()
        self.observed = Observed(lambda: policy, self.clock)

    async def says(self, *exchanges: Finished) -> None:
        for exchange in exchanges:
            await self.observed.finished(exchange)

    def counted(self, counting: Counting, version: str = "v2", since_s: int = 0, outcome: str = "") -> Counted:
        return self.observed.counted("trade", version, counting, since_s, "pay", outcome)


@pytest.fixture
def log(policy: Policy) -> Log:
    return Log(policy)


def finished(
    outcome: str = Outcome.SUCCEEDED,
    fault: str = "",
    *,
    cluster: str = "trade|v2",
    operation: str = "pay",
    merchant: str = "m1",
    money: str = "100 CNY",
    status: int = 200,
    flags: str = "",
    reached: bool = True,
    service_s: float | None = 0.004,
    decision: str = names.DECISION_ALLOW,
) -> Finished:
    said = {names.META_DECISION: decision, names.META_OPERATION: operation}
    said |= {names.META_MERCHANT: merchant} if merchant else {}
    said |= {names.META_MONEY: money} if money else {}
    taken = frozenset(flags.split())
    return Finished("id", status, taken, 0.1, service_s, cluster, reached, said, outcome, fault=fault)


SUCCESS = finished()
PAYERS_FAULT = finished(Outcome.REFUSED, Fault.PAYER)
FAILURE = finished(Outcome.UNKNOWN, Fault.CHANNEL, status=502)
NO_HOST = finished("", status=503, flags="UH", reached=False, service_s=None)
QUERY = finished(operation="query", money="")


class TestWhatCounts:
    async def test_by_version_of_services_that_have_several(self, log: Log) -> None:
        await log.says(SUCCESS, SUCCESS, replace(SUCCESS, upstream_cluster="trade|v1"))
        assert log.observed.totals("trade", "v2") == Exposure(2, 0, 2, 0, {"CNY": 200})
        assert log.observed.totals("trade", "v1") == Exposure(1, 0, 1, 0, {"CNY": 100})

    @pytest.mark.parametrize("cluster", ["", "single|v1", "trade|v9", "trade", "nobody|v1", "trade|v2|other|v1"])
    async def test_nothing_of_other_clusters(self, log: Log, cluster: str) -> None:
        await log.says(replace(SUCCESS, upstream_cluster=cluster))
        for service, version in (("trade", "v1"), ("trade", "v2"), ("single", "v1"), ("trade", "v9")):
            assert log.observed.totals(service, version) == Exposure()
            assert log.observed.samples(service, version) == []
        assert log.observed.recent_merchants("trade") == log.observed.recent_merchants("single") == {}

    async def test_nothing_of_what_was_not_let_in(self, log: Log) -> None:
        await log.says(finished(decision=names.DECISION_DENY), replace(SUCCESS, decision={}))
        assert log.observed.totals("trade", "v2") == Exposure()
        assert log.observed.recent_merchants("trade") == {}

    async def test_of_what_nobody_asked_for_there_is_nothing(self, log: Log) -> None:
        assert log.counted(Counting.REQUESTS) == Counted(0, 0)
        assert log.observed.histogram("trade", "v2", 0) == {}
        assert log.observed.p99_ms("trade", "v2") is None
        assert log.observed.without_host("trade", "v2", 0) == 0


class TestCounting:
    async def test_requests_errors_and_payments(self, log: Log) -> None:
        await log.says(SUCCESS, PAYERS_FAULT, FAILURE, NO_HOST, QUERY, replace(QUERY, status=500))
        assert log.counted(Counting.REQUESTS) == Counted(3, 6)
        assert log.counted(Counting.PAYMENTS) == Counted(1, 3), "the payer's fault says nothing about the service"
        assert log.observed.totals("trade", "v2") == Exposure(6, 3, 3, 2, {"CNY": 300})
        assert log.observed.without_host("trade", "v2", 0) == 1

    async def test_a_business_counter_is_of_one_operation_without_one_outcome(self, log: Log) -> None:
        await log.says(SUCCESS, SUCCESS, PAYERS_FAULT, FAILURE, replace(QUERY, outcome=Outcome.REFUSED))
        assert log.counted(Counting.OUTCOME, outcome="refused") == Counted(3, 4)
        assert log.counted(Counting.OUTCOME, outcome="unknown") == Counted(3, 4)
        assert log.counted(Counting.OUTCOME, outcome="accepted") == Counted(4, 4)
        assert log.observed.counted("trade", "v2", Counting.OUTCOME, 0, "query", "refused") == Counted(0, 1)
        assert log.observed.counted("trade", "v2", Counting.OUTCOME, 0, "refund", "refused") == Counted(0, 0)

    async def test_money_is_summed_by_currency_where_a_payment_reached_the_service(self, log: Log) -> None:
        await log.says(
            SUCCESS,
            finished(money="5 CNY"),
            finished(money="7 JPY"),
            finished(money=""),
            finished(money="junk"),
            finished(money=f"{'9' * 30} CNY"),
            finished(money="1000 CNY", operation="refund"),
            replace(NO_HOST, decision=finished(money="1000 CNY").decision),
        )
        assert log.observed.totals("trade", "v2").amounts == {"CNY": 105, "JPY": 7}

    async def test_currencies_are_bounded(self, log: Log) -> None:
        letters = "ABCDEFGHIJ"
        made = [f"1 {one}{two}X" for one in letters for two in letters][: MAX_CURRENCIES + 10]
        await log.says(*(finished(money=money) for money in [*made, made[0]]))
        total = log.observed.totals("trade", "v2")
        assert len(total.amounts) == MAX_CURRENCIES
        assert total.amounts["AAX"] == 2, "those that are known go on"
        assert total.payments == MAX_CURRENCIES + 11
        assert len(log.observed.recent_merchants("trade")["m1"].amounts) == MAX_RECENT_CURRENCIES


class TestWindows:
    async def test_the_first_second_is_in_it(self, log: Log) -> None:
        for _ in range(3):
            await log.says(SUCCESS, NO_HOST)
            log.clock.now_s += 1
        for since, seconds in ((BEGAN_S, 3), (BEGAN_S + 1, 2), (BEGAN_S + 2, 1), (BEGAN_S + 3, 0)):
            assert log.counted(Counting.REQUESTS, since_s=since) == Counted(seconds, 2 * seconds)
            assert log.observed.without_host("trade", "v2", since) == seconds
            assert sum(log.observed.histogram("trade", "v2", since).values()) == seconds

    async def test_what_is_old_is_gone_but_for_the_totals(self, log: Log) -> None:
        await log.says(SUCCESS)
        log.clock.now_s += 1
        await log.says(FAILURE)
        log.clock.now_s += KEPT_S
        await log.says(SUCCESS)
        assert log.counted(Counting.REQUESTS) == Counted(1, 2)
        log.clock.now_s += 1
        await log.says(SUCCESS)
        assert log.counted(Counting.REQUESTS) == Counted(2, 2)
        assert log.observed.totals("trade", "v2").requests == 4

    async def test_a_clock_that_is_set_back_loses_nothing(self, log: Log) -> None:
        await log.says(SUCCESS)
        log.clock.now_s -= 100
        await log.says(SUCCESS)
        assert log.counted(Counting.REQUESTS, since_s=BEGAN_S) == Counted(2, 2)


class TestLatencies:
    async def test_each_counts_in_the_first_bucket_that_holds_it(self, log: Log) -> None:
        times = {0.0: 1, 0.001: 1, 0.0042: 5, 0.005: 5, 0.0061: 7, 1.0: 1_000, 1.2: 1_500, 299.0: 300_000, 9e3: 300_000}
        await log.says(*(finished(service_s=service_s) for service_s in times), NO_HOST)
        assert log.observed.histogram("trade", "v2", 0) == Counter(times.values())

    async def test_the_p99_is_of_the_last_five_minutes(self, log: Log) -> None:
        await log.says(finished(service_s=20.0))
        log.clock.now_s += 301
        await log.says(*[finished(service_s=0.009)] * 198, finished(service_s=2.5), finished(service_s=4.0))
        assert log.observed.p99_ms("trade", "v2") == 10
        await log.says(finished(service_s=4.0))
        assert log.observed.p99_ms("trade", "v2") == 3_000


class TestSamples:
    async def test_the_last_five_minutes_in_tens_of_seconds_oldest_first(self, log: Log) -> None:
        span_s = SAMPLES * SAMPLE_S
        await log.says(SUCCESS)  # in the sample before the first one
        log.clock.now_s += SAMPLE_S
        await log.says(SUCCESS, FAILURE)
        log.clock.now_s += SAMPLE_S - 1
        await log.says(finished(service_s=0.3))
        log.clock.now_s += 1
        await log.says(NO_HOST)
        log.clock.now_s = BEGAN_S + span_s + SAMPLE_S - 1
        await log.says(SUCCESS)
        found = log.observed.samples("trade", "v2")
        assert [one.at_s for one in found] == list(range(BEGAN_S + SAMPLE_S, BEGAN_S + span_s + 1, SAMPLE_S))
        assert len(found) == SAMPLES == 30
        assert found[0] == Sample(BEGAN_S + SAMPLE_S, 3, 1, 300)
        assert found[1] == Sample(BEGAN_S + 2 * SAMPLE_S, 1, 1, 0)
        assert found[2] == Sample(BEGAN_S + 3 * SAMPLE_S, 0, 0, 0)
        assert found[-1] == Sample(BEGAN_S + span_s, 1, 0, 5)


class TestRecentMerchants:
    async def test_who_paid_within_the_last_hour(self, log: Log) -> None:
        await log.says(SUCCESS, finished(merchant="m2", cluster="trade|v1"), finished(merchant="m3", operation="query"))
        log.clock.now_s += 60 * (KEPT_MINUTES - 1)
        await log.says(SUCCESS, finished(merchant="m2", money="7 JPY"), NO_HOST, finished(merchant=""))
        found = log.observed.recent_merchants("trade")
        assert found == {"m1": Recent(3, {"CNY": 200}), "m2": Recent(2, {"CNY": 100, "JPY": 7})}
        log.clock.now_s += 60
        found = log.observed.recent_merchants("trade")
        assert found == {"m1": Recent(2, {"CNY": 100}), "m2": Recent(1, {"JPY": 7})}
        log.clock.now_s += 60 * KEPT_MINUTES
        assert log.observed.recent_merchants("trade") == {}

    def test_those_that_were_silent_longest_make_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("control_plane.releases.recent_merchants.MAX_MERCHANTS", 3)
        known = RecentMerchants()
        for merchant in ("a", "b", "c", "a", "d", "e"):
            known.add(merchant, None, BEGAN_S)
        assert known.of_the_last_hour(BEGAN_S) == {"a": Recent(2), "d": Recent(1), "e": Recent(1)}

    def test_there_are_twenty_thousand_at_most(self) -> None:
        known = RecentMerchants()
        for number in range(20_010):
            known.add(f"m{number}", Money(1, "CNY"), BEGAN_S)
        found = known.of_the_last_hour(BEGAN_S)
        assert len(found) == 20_000
        assert "m9" not in found
        assert {"m10", "m20009"} <= found.keys()


async def test_what_the_policy_has_no_longer_is_forgotten(log: Log, policy: Policy, tmp_path: Path) -> None:
    await log.says(SUCCESS)
    log.observed.keep(policy)
    assert log.observed.totals("trade", "v2").requests == 1
    assert "m1" in log.observed.recent_merchants("trade")
    log.observed.keep(read(tmp_path, POLICY.replace("v2", "v3")))
    assert log.observed.totals("trade", "v2") == Exposure()
    assert "m1" in log.observed.recent_merchants("trade"), "it goes on paying at the service"
    log.observed.keep(read(tmp_path, WITHOUT_TRADE))
    assert log.observed.recent_merchants("trade") == {}


async def test_prometheus_reads_counters_and_a_histogram_by_version(log: Log) -> None:
    await log.says(SUCCESS, PAYERS_FAULT, FAILURE, NO_HOST, finished(service_s=0.15, cluster="trade|v1"))
    registry = CollectorRegistry()
    registry.register(log.observed)
    lines = generate_latest(registry).decode().splitlines()
    expected = """
# TYPE paymesh_version_requests_total counter
paymesh_version_requests_total{result="success",service="trade",version="v1"} 1.0
paymesh_version_requests_total{result="error",service="trade",version="v1"} 0.0
paymesh_version_requests_total{result="success",service="trade",version="v2"} 2.0
paymesh_version_requests_total{result="error",service="trade",version="v2"} 2.0
paymesh_version_payments_total{says="works",service="trade",version="v2"} 1.0
paymesh_version_payments_total{says="fails",service="trade",version="v2"} 2.0
# TYPE paymesh_version_duration_seconds histogram
paymesh_version_duration_seconds_bucket{le="0.1",service="trade",version="v1"} 0.0
paymesh_version_duration_seconds_bucket{le="0.15",service="trade",version="v1"} 1.0
paymesh_version_duration_seconds_bucket{le="300",service="trade",version="v1"} 1.0
paymesh_version_duration_seconds_bucket{le="+Inf",service="trade",version="v1"} 1.0
paymesh_version_duration_seconds_count{service="trade",version="v1"} 1.0
paymesh_version_duration_seconds_sum{service="trade",version="v1"} 0.15
paymesh_version_duration_seconds_bucket{le="0.003",service="trade",version="v2"} 0.0
paymesh_version_duration_seconds_bucket{le="0.005",service="trade",version="v2"} 3.0
paymesh_version_duration_seconds_count{service="trade",version="v2"} 3.0
"""
    ours = [line.replace("'", '"') for line in lines]
    assert [line for line in expected.strip().splitlines() if line not in ours] == []
    assert sum("_bucket{" in line for line in lines) == 2 * (len(BOUNDS_MS) + 1)


@dataclass(frozen=True)
class Told:
    """One exchange, and what a person would say of it. `after_s`: seconds since the one before."""

    after_s: int
    version: str
    merchant: str
    pays: bool
    amount: int
    currency: str
    kind: str
    ms: int

    @property
    def reached(self) -> bool:
        return self.kind != "no host"

    def exchange(self) -> Finished:
        operation = "pay" if self.pays else "query"
        outcome, fault, status, flags = {
            "well": (Outcome.SUCCEEDED, Fault.NONE, 200, ""),
            "payer": (Outcome.REFUSED, Fault.PAYER, 402, ""),
            "fails": (Outcome.UNKNOWN, Fault.CHANNEL, 503, ""),
            "no host": ("", "", 503, "UH"),
        }[self.kind]
        return finished(
            outcome,
            fault,
            cluster=f"trade|{self.version}",
            operation=operation,
            merchant=self.merchant,
            money=f"{self.amount} {self.currency}",
            status=status,
            flags=flags,
            reached=self.reached,
            service_s=self.ms / 1000 if self.reached else None,
        )


TOLD = st.lists(
    st.builds(
        Told,
        after_s=st.sampled_from([0, 0, 1, 7, 60, 400]),
        version=st.sampled_from(["v1", "v2"]),
        merchant=st.sampled_from(["m1", "m2", "m3"]),
        pays=st.booleans(),
        amount=st.integers(1, 10**9),
        currency=st.sampled_from(["CNY", "USD", "JPY"]),
        kind=st.sampled_from(["well", "payer", "fails", "no host"]),
        ms=st.integers(0, 400_000),
    ),
    max_size=40,
)


@given(TOLD, st.integers(0, WHOLE - 1))
def test_it_agrees_with_a_plain_recount(policy: Policy, told: list[Told], back_s: int) -> None:
    log, at = Log(policy), []
    for one in told:
        log.clock.now_s += one.after_s
        asyncio.run(log.says(one.exchange()))
        at.append(log.clock.now_s)
    since_s = log.clock.now_s - back_s
    for version in ("v1", "v2"):
        mine = [(one, when) for one, when in zip(told, at, strict=True) if one.version == version]
        assert log.observed.totals("trade", version) == exposure_of([one for one, _ in mine])
        lately = [one for one, when in mine if when >= since_s]
        seen = exposure_of(lately)
        well = seen.payments - seen.payments_failed
        assert log.counted(Counting.REQUESTS, version, since_s) == Counted(seen.requests - seen.errors, seen.requests)
        assert log.counted(Counting.PAYMENTS, version, since_s) == Counted(well, seen.payments)
        paid = [one for one in lately if one.pays]
        refused = sum(one.kind == "payer" for one in paid)
        assert log.counted(Counting.OUTCOME, version, since_s, "refused") == Counted(len(paid) - refused, len(paid))
        bounds = [next((one for one in BOUNDS_MS if one >= each.ms), BOUNDS_MS[-1]) for each in lately if each.reached]
        assert log.observed.histogram("trade", version, since_s) == Counter(bounds)
        assert log.observed.without_host("trade", version, since_s) == sum(not one.reached for one in lately)
    minute = log.clock.now_s // 60
    fresh = [one for one, when in zip(told, at, strict=True) if one.pays and minute - when // 60 < KEPT_MINUTES]
    assert log.observed.recent_merchants("trade") == {
        merchant: recent_of([one for one in fresh if one.merchant == merchant])
        for merchant in {one.merchant for one in fresh}
    }


def exposure_of(told: list[Told]) -> Exposure:
    said = [one for one in told if one.pays and one.kind != "payer"]
    return Exposure(
        requests=len(told),
        errors=sum(one.kind in ("fails", "no host") for one in told),
        payments=len(said),
        payments_failed=sum(one.kind != "well" for one in said),
        amounts=amounts_of([one for one in told if one.pays and one.reached]),
    )


def recent_of(told: list[Told]) -> Recent:
    return Recent(len(told), amounts_of([one for one in told if one.reached]))


def amounts_of(told: list[Told]) -> dict[str, int]:
    amounts: Counter[str] = Counter()
    for one in told:
        amounts[one.currency] += one.amount
    return dict(amounts)
