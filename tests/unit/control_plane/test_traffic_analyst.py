"""A release is judged by what both versions did since its step began: by payments, load reports, outcomes, latency."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from envoy.service.load_stats.v3 import lrs_pb2

from control_plane.releases.observed import Observed
from control_plane.releases.traffic_analyst import TrafficAnalyst
from control_plane.xds.load_reports import LoadReports
from paymesh.payments import internal_names as names
from paymesh.payments.policy.load import load_policy
from paymesh.payments.releases.analysis import LatencyRule, RateRule, Verdict
from paymesh.payments.releases.checks import Analysis, Check, Counting, LatencyCheck, RateCheck
from paymesh.payments.releases.plan import Hold, Kind, Plan, SetWeight
from paymesh.payments.releases.state import Phase, State
from paymesh.server.access_log import Finished
from paymesh.server.http_fetch import AiohttpFetch

BEGAN_S = 1_800_000_000
RULE = RateRule("rate", max_drop=0.01, confidence=0.9, min_sample=50)
PAYMENTS = RateCheck(RULE, Counting.PAYMENTS)
REFUSED = RateCheck(RULE, Counting.OUTCOME, "pay", "refused")
REQUESTS = RateCheck(RULE, Counting.REQUESTS)
LATENCY = LatencyCheck(LatencyRule("latency", 0.9, max_ratio=1.5, min_sample=50))
HOLDING = State(phase=Phase.HOLDING, step=1, share=1_000, since_s=BEGAN_S)
POLICY = """
services:
  - name: trade
    versions:
      - {name: v1, weight: 100, endpoints: [{address: 10.0.0.1, port: 1}]}
      - {name: v2, weight: 0, endpoints: [{address: 10.0.0.2, port: 1}]}
"""


def plan(*checks: Check, window_s: int = 900) -> Plan:
    analysis = Analysis(checks, window_s=window_s)
    return Plan("r", "trade", Kind.CANARY, "v1", "v2", (SetWeight(1_000), Hold(60)), analysis)


class Table:
    def __init__(self, file: Path) -> None:
        file.write_text(POLICY)
        policy = load_policy([file], {})
        self.now_s = BEGAN_S
        self.observed = Observed(lambda: policy, lambda: self.now_s)
        self.loads = LoadReports(lambda: float(self.now_s))
        self.fetch = AiohttpFetch()
        self.analyst = TrafficAnalyst(self.observed, self.loads, self.fetch, lambda: self.now_s)

    async def come(self, version: str, count: int, *, outcome: str = "succeeded", ms: int = 10, flag: str = "") -> None:
        said = {names.META_DECISION: names.DECISION_ALLOW, names.META_OPERATION: "pay", names.META_MERCHANT: "m"}
        fault = {"failed": "channel", "refused": "payer"}.get(outcome, "")
        flags = frozenset({flag} if flag else ())
        for _ in range(count):
            await self.observed.finished(
                Finished(
                    "id", 200, flags, ms / 1000, ms / 1000, f"trade|{version}", not flag, said, outcome, fault=fault
                )
            )

    def report(self, version: str, successes: int, errors: int) -> None:
        request = lrs_pb2.LoadStatsRequest()
        stats = request.cluster_stats.add(cluster_name=f"trade|{version}")
        stats.upstream_locality_stats.add(total_successful_requests=successes, total_error_requests=errors)
        self.loads.report(1, request)

    async def verdicts(self, of: Plan, state: State = HOLDING) -> list[Verdict]:
        return [one.verdict for one in await self.analyst.look(of, state)]


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[Table]:
    found = Table(tmp_path / "policy.yaml")
    yield found
    await found.fetch.aclose()


async def test_payments_by_what_they_say_of_the_service(table: Table) -> None:
    await table.come("v1", 300)
    await table.come("v2", 30)
    assert await table.verdicts(plan(PAYMENTS)) == [Verdict.INCONCLUSIVE]
    await table.come("v2", 270)
    await table.come("v2", 100, outcome="refused")  # by the payer's bank: nothing about the service
    assert await table.verdicts(plan(PAYMENTS)) == [Verdict.PASS]
    await table.come("v2", 30, outcome="failed")
    assert await table.verdicts(plan(PAYMENTS)) == [Verdict.FAIL]


async def test_a_business_counter(table: Table) -> None:
    await table.come("v1", 300)
    await table.come("v2", 250)
    await table.come("v2", 50, outcome="refused")
    assert await table.verdicts(plan(REFUSED, PAYMENTS)) == [Verdict.FAIL, Verdict.PASS]


async def test_requests_by_load_reports_alone(table: Table) -> None:
    table.report("v1", 1_000, 0)
    table.report("v2", 900, 0)
    assert await table.verdicts(plan(REQUESTS)) == [Verdict.PASS]
    table.report("v2", 0, 100)
    assert await table.verdicts(plan(REQUESTS)) == [Verdict.FAIL]


async def test_latency(table: Table) -> None:
    await table.come("v1", 100, ms=20)
    await table.come("v2", 100, ms=30)
    assert await table.verdicts(plan(LATENCY)) == [Verdict.PASS]
    await table.come("v2", 100, ms=90)
    assert await table.verdicts(plan(LATENCY)) == [Verdict.FAIL]


async def test_only_what_came_since_the_step_began_and_within_the_window(table: Table) -> None:
    await table.come("v1", 300)
    await table.come("v2", 300, outcome="failed")
    table.now_s += 10
    later = replace(HOLDING, since_s=table.now_s)
    assert await table.verdicts(plan(PAYMENTS), later) == [Verdict.INCONCLUSIVE]
    assert await table.verdicts(plan(PAYMENTS, window_s=5)) == [Verdict.INCONCLUSIVE]
    assert await table.verdicts(plan(PAYMENTS)) == [Verdict.FAIL]


async def test_with_everything_the_target_is_compared_with_what_the_stable_version_did_last(table: Table) -> None:
    await table.come("v1", 300)
    table.now_s += 10
    everything = replace(HOLDING, share=10_000, since_s=table.now_s)
    await table.come("v2", 300, outcome="failed")
    assert await table.verdicts(plan(PAYMENTS), replace(everything, share=9_999)) == [Verdict.INCONCLUSIVE]
    assert await table.verdicts(plan(PAYMENTS), everything) == [Verdict.FAIL]


async def test_without_a_healthy_host_it_is_unhealthy_since_its_step(table: Table) -> None:
    assert table.analyst.unhealthy(plan(), HOLDING) == ""
    await table.come("v1", 1, flag="UH")
    assert table.analyst.unhealthy(plan(), HOLDING) == ""
    await table.come("v2", 2, flag="UH")
    assert table.analyst.unhealthy(plan(), HOLDING) == "2 requests found no healthy host of trade@v2"
    assert table.analyst.unhealthy(plan(), replace(HOLDING, since_s=BEGAN_S + 1)) == ""
