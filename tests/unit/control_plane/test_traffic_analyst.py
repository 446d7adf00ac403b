"""Each check is made of what both versions did since the step began, and of a stable version without traffic of what it
did last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from envoy.service.load_stats.v3 import lrs_pb2

from control_plane.releases.observed import Observed
from control_plane.releases.traffic_analyst import TrafficAnalyst
from control_plane.xds.load_reports import KEPT_S, LoadReports
from paymesh.payments.jose.fetch import FetchResponse
from paymesh.payments.outcome import Fault, Outcome
from paymesh.payments.policy.load import load_policy
from paymesh.payments.releases.analysis import Finding, LatencyRule, RateRule, Verdict
from paymesh.payments.releases.checks import (
    Analysis,
    Check,
    Counting,
    LatencyCheck,
    PrometheusCheck,
    RateCheck,
    WebhookCheck,
)
from paymesh.payments.releases.state import Phase, State
from paymesh.payments.releases.traffic import TOTAL
from paymesh.server.access_log import Finished
from tests.unit.control_plane.test_observed import POLICY, finished
from tests.unit.control_plane.test_release_runner import PLAN

WINDOW_S = 300
BEGAN_S = 1_000
"""When the step did."""
WELL, FAILS = finished(), finished(Outcome.UNKNOWN, Fault.CHANNEL, status=502)
REFUSED = finished(Outcome.REFUSED, Fault.PAYER)
NO_HOST = finished("", status=503, flags="UH", reached=False, service_s=None)
STATE = State(Phase.HOLDING, step=1, share=1_000, seq=1, applied=1, since_s=BEGAN_S)
AT_THE_END = replace(STATE, share=TOTAL)
PAYMENTS = RateCheck(RateRule("success", max_drop=0.01), Counting.PAYMENTS)
REQUESTS = RateCheck(RateRule("answered", max_drop=0.01), Counting.REQUESTS)
COUNTER = RateCheck(RateRule("refused", max_drop=0.02), Counting.OUTCOME, "pay", "refused")
LATENCY = LatencyCheck(LatencyRule("latency", quantile=0.99, max_ratio=1.5))


class Asked:
    """Others, who answer this to everything."""

    def __init__(self) -> None:
        self.answer: object = {"verdict": "pass", "why": "quiet"}
        self.heard: list[tuple[str, str]] = []

    async def fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float, max_bytes: int
    ) -> FetchResponse:
        self.heard.append((url, body.decode()))
        return FetchResponse(200, {}, json.dumps(self.answer).encode())


class Site:
    """An analyst with what it looks at. Its wall clock and its monotonic one differ, as they do."""

    def __init__(self, folder: Path) -> None:
        (folder / "policy.yaml").write_text(POLICY)
        policy = load_policy([folder / "policy.yaml"], {})
        self.now_s = BEGAN_S
        self.observed = Observed(lambda: policy, lambda: self.now_s)
        self.loads = LoadReports(lambda: self.now_s - 987.5)
        self.asked = Asked()
        self.analyst = TrafficAnalyst(self.observed, self.loads, self.asked, lambda: self.now_s)

    async def ends(self, version: str, exchange: Finished, times: int) -> None:
        for _ in range(times):
            await self.observed.finished(replace(exchange, upstream_cluster=f"trade|{version}"))

    async def both(self, times: int = 1_000) -> None:
        for version in ("v1", "v2"):
            await self.ends(version, WELL, times)

    def reported(self, version: str, successes: int, errors: int = 0) -> None:
        request = lrs_pb2.LoadStatsRequest()
        zone = request.cluster_stats.add(cluster_name=f"trade|{version}").upstream_locality_stats.add()
        zone.total_successful_requests, zone.total_error_requests = successes, errors
        self.loads.report(1, request)

    async def look(self, *checks: Check, state: State = STATE) -> list[Finding]:
        return await self.analyst.look(replace(PLAN, analysis=Analysis(checks, window_s=WINDOW_S)), state)

    async def says(self, check: Check, state: State = STATE) -> Finding:
        (finding,) = await self.look(check, state=state)
        return finding

    async def verdict(self, check: Check, state: State = STATE) -> Verdict:
        return (await self.says(check, state)).verdict


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


class TestPayments:
    async def test_as_their_outcomes_say(self, site: Site) -> None:
        assert await site.verdict(PAYMENTS) is Verdict.INCONCLUSIVE
        await site.both()
        await site.ends("v2", REFUSED, 500)
        assert await site.says(PAYMENTS) == Finding(
            "success",
            Verdict.PASS,
            "stable 100.00% of 1000, target 100.00% of 1000: worse by 0.27% at most, 1.00% allowed",
        )
        await site.ends("v2", FAILS, 50)
        found = await site.says(PAYMENTS)
        assert found.verdict is Verdict.FAIL
        assert found.why.startswith("stable 100.00% of 1000, target 95.24% of 1050: worse by 3.")

    async def test_too_few_of_one_say_nothing(self, site: Site) -> None:
        await site.both(99)
        await site.ends("v1", WELL, 1_000)
        assert await site.verdict(PAYMENTS) is Verdict.INCONCLUSIVE


class TestLoadReports:
    async def test_requests_are_counted_by_envoys_reports_alone(self, site: Site) -> None:
        await site.both()
        assert (await site.says(REQUESTS)).why == "stable none, target none: fewer than 100"
        site.reported("v1", 9_000)
        site.reported("v2", 1_000)
        assert await site.verdict(REQUESTS) is Verdict.PASS
        site.reported("v2", 0, 60)
        found = await site.says(REQUESTS)
        assert found.verdict is Verdict.FAIL
        assert found.why.startswith("stable 100.00% of 9000, target 94.34% of 1060: ")

    async def test_those_of_a_version_without_traffic_are_kept(self, site: Site) -> None:
        await site.ends("v1", WELL, 1)
        site.reported("v1", 9_000)
        for _ in range(20):
            site.now_s += int(KEPT_S) // 10
            site.reported("v1", 0)
            site.reported("v2", 1_000)
        found = await site.says(REQUESTS, AT_THE_END)
        assert found.verdict is Verdict.PASS
        assert found.why.startswith("stable 100.00% of 9000, target 100.00% of ")


async def test_a_business_counter_may_rise_by_so_much(site: Site) -> None:
    await site.both()
    await site.ends("v1", REFUSED, 20)
    await site.ends("v2", REFUSED, 22)
    assert await site.verdict(COUNTER) is Verdict.PASS
    await site.ends("v2", REFUSED, 80)
    assert await site.verdict(COUNTER) is Verdict.FAIL
    assert await site.verdict(PAYMENTS) is Verdict.PASS, "the payers' faults are none of the service's"


async def test_latency(site: Site) -> None:
    await site.both(200)
    assert await site.verdict(LATENCY) is Verdict.PASS
    await site.ends("v2", finished(service_s=0.05), 20)
    assert await site.says(LATENCY) == Finding("latency", Verdict.FAIL, "p99: stable 5 ms, target 50 ms, 8 allowed")


async def test_checks_are_told_in_their_order(site: Site) -> None:
    await site.both()
    found = await site.look(LATENCY, PAYMENTS, COUNTER, REQUESTS)
    assert [one.rule for one in found] == ["latency", "success", "refused", "answered"]
    assert await site.analyst.look(replace(PLAN, analysis=None), STATE) == []


class TestSince:
    @pytest.mark.parametrize("check", [PAYMENTS, REQUESTS, LATENCY])
    async def test_what_was_before_the_step_does_not_count(self, site: Site, check: Check) -> None:
        site.now_s = BEGAN_S - 1
        await site.both()
        site.reported("v1", 1_000)
        site.reported("v2", 1_000)
        site.now_s = BEGAN_S
        assert await site.verdict(check) is Verdict.INCONCLUSIVE
        await site.both()
        site.reported("v1", 1_000)
        site.reported("v2", 1_000)
        site.now_s += 10
        assert await site.verdict(check) is Verdict.PASS

    @pytest.mark.parametrize("check", [PAYMENTS, REQUESTS, LATENCY])
    async def test_nor_does_what_is_older_than_the_window(self, site: Site, check: Check) -> None:
        await site.both()
        site.reported("v1", 1_000)
        site.reported("v2", 1_000)
        site.now_s += WINDOW_S
        assert await site.verdict(check) is Verdict.PASS
        site.now_s += 1
        assert await site.verdict(check) is Verdict.INCONCLUSIVE

    async def test_at_the_end_the_stable_version_is_judged_by_what_it_did_last(self, site: Site) -> None:
        site.now_s = BEGAN_S - WINDOW_S - 1
        await site.ends("v1", FAILS, 1_000)  # too long ago
        site.now_s = BEGAN_S - WINDOW_S
        await site.ends("v1", WELL, 500)
        site.now_s = BEGAN_S
        await site.ends("v1", WELL, 500)
        await site.ends("v2", WELL, 1_000)
        found = await site.says(PAYMENTS, AT_THE_END)
        assert found.verdict is Verdict.PASS
        assert found.why.startswith("stable 100.00% of 1000, target 100.00% of 1000: ")
        site.now_s += 1
        await site.ends("v2", FAILS, 100)
        assert await site.verdict(PAYMENTS, AT_THE_END) is Verdict.FAIL

    @pytest.mark.parametrize("check", [PAYMENTS, LATENCY])
    async def test_however_long_ago_that_is(self, site: Site, check: Check) -> None:
        """Else a last hold that is longer than the window would never end."""
        site.now_s = BEGAN_S - 10
        await site.ends("v1", WELL, 1_000)
        site.now_s = BEGAN_S + 2 * int(KEPT_S)
        await site.ends("v2", WELL, 1_000)
        assert await site.verdict(check, AT_THE_END) is Verdict.PASS
        resumed = replace(AT_THE_END, since_s=site.now_s)
        assert await site.verdict(check, resumed) is Verdict.PASS

    async def test_orders_that_end_there_do_not_hide_it(self, site: Site) -> None:
        site.now_s = BEGAN_S - 10
        await site.ends("v1", WELL, 1_000)
        site.now_s = BEGAN_S + WINDOW_S + 100
        await site.ends("v1", WELL, 1)
        await site.ends("v2", WELL, 1_000)
        assert (await site.says(PAYMENTS, AT_THE_END)).why.startswith("stable 100.00% of 1001, ")


class TestUnhealthy:
    async def test_a_request_that_found_no_host_of_the_target_since_the_step_began(self, site: Site) -> None:
        site.now_s = BEGAN_S - 1
        await site.ends("v2", NO_HOST, 1)
        site.now_s = BEGAN_S
        await site.ends("v1", NO_HOST, 1)
        assert site.analyst.unhealthy(PLAN, STATE) == ""
        await site.ends("v2", NO_HOST, 3)
        assert site.analyst.unhealthy(PLAN, STATE) == "3 requests found no healthy host of trade@v2"


class TestAsking:
    async def test_a_webhook_is_told_what_it_is_about(self, site: Site) -> None:
        site.now_s += 40
        check = WebhookCheck("risk", "https://risk.example/judge")
        assert await site.says(check) == Finding("risk", Verdict.PASS, "quiet")
        ((url, body),) = site.asked.heard
        assert url == check.url
        assert json.loads(body) == {
            "release": PLAN.name,
            "service": "trade",
            "stable": "v1",
            "target": "v2",
            "phase": "holding",
            "step": 1,
            "share": 1_000,
            "window_s": 40,
            "why": "",
        }

    @pytest.mark.parametrize(("passed_s", "window"), [(0, "1s"), (40, "40s"), (1_000, "300s")])
    async def test_a_prometheus_is_asked_for_the_steps_time(self, site: Site, passed_s: int, window: str) -> None:
        site.now_s += passed_s
        site.asked.answer = {"status": "success", "data": {"resultType": "scalar", "result": [1, "0.5"]}}
        query = 'rate(x{service="{{service}}",version="{{target}}"}[{{window}}])'
        check = PrometheusCheck("errors", "https://prometheus.example", query, None, "0.4")
        assert await site.says(check) == Finding("errors", Verdict.FAIL, "0.5 is above 0.4")
        ((url, _),) = site.asked.heard
        asked = parse_qs(urlsplit(url).query)["query"]
        assert asked == [f'rate(x{{service="trade",version="v2"}}[{window}])']
