"""Owns looking at how a release's target does: by Envoy's access log and load reports, and by asking others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from control_plane.releases.asking import Subject, ask_prometheus, ask_webhook
from control_plane.releases.observed import Observed
from control_plane.xds.load_reports import LoadReports
from paymesh.payments.internal_names import version_cluster
from paymesh.payments.jose.fetch import HttpFetch
from paymesh.payments.releases.analysis import Counted, Finding, judge_latency, judge_rate
from paymesh.payments.releases.checks import Check, Counting, LatencyCheck, PrometheusCheck, RateCheck
from paymesh.payments.releases.plan import Plan
from paymesh.payments.releases.state import State
from paymesh.payments.releases.traffic import TOTAL


class TrafficAnalyst:
    """`runner.Analyst`. `clock_s`: Unix seconds."""

    def __init__(self, observed: Observed, loads: LoadReports, fetch: HttpFetch, clock_s: Callable[[], int]) -> None:
        self._observed = observed
        self._loads = loads
        self._fetch = fetch
        self._clock_s = clock_s

    def unhealthy(self, plan: Plan, state: State) -> str:
        count = self._observed.without_host(plan.service, plan.target, state.since_s)
        return f"{count} requests found no healthy host of {plan.service}@{plan.target}" if count else ""

    async def look(self, plan: Plan, state: State) -> list[Finding]:
        checks = () if plan.analysis is None else plan.analysis.checks
        return list(await asyncio.gather(*(self._check(plan, state, check) for check in checks)))

    async def _check(self, plan: Plan, state: State, check: Check) -> Finding:
        service, since_s, stable_since_s = plan.service, self._since_s(plan, state), self._stable_since_s(plan, state)
        match check:
            case RateCheck(rule):
                was = self._counted(service, plan.stable, check, stable_since_s)
                return judge_rate(rule, was, self._counted(service, plan.target, check, since_s))
            case LatencyCheck(rule):
                before = self._observed.histogram(service, plan.stable, stable_since_s)
                return judge_latency(rule, before, self._observed.histogram(service, plan.target, since_s))
            case PrometheusCheck():
                return await ask_prometheus(self._fetch, check, self._subject(plan, state))
            case _:
                return await ask_webhook(self._fetch, check, self._subject(plan, state))

    def _counted(self, service: str, version: str, check: RateCheck, since_s: int) -> Counted:
        if check.counting is Counting.REQUESTS:
            load = self._loads.since(version_cluster(service, version), self._clock_s() - since_s)
            return Counted(load.successes, load.successes + load.errors)
        return self._observed.counted(service, version, check.counting, since_s, check.operation, check.outcome)

    def _since_s(self, plan: Plan, state: State) -> int:
        assert plan.analysis is not None  # nobody looks otherwise
        return max(state.since_s, self._clock_s() - plan.analysis.window_s)

    def _stable_since_s(self, plan: Plan, state: State) -> int:
        """Once it has no traffic any more, what it did last is what the target is compared with."""
        assert plan.analysis is not None  # nobody looks otherwise
        if state.share < TOTAL:
            return self._since_s(plan, state)
        last_s = self._observed.last_s(plan.service, plan.stable) or self._clock_s()
        # Orders that began there may still trickle in: what it did before the step counts all the same.
        return min(last_s, state.since_s) - plan.analysis.window_s

    def _subject(self, plan: Plan, state: State) -> Subject:
        return subject_of(plan, state, self._clock_s() - self._since_s(plan, state))


def subject_of(plan: Plan, state: State, window_s: int) -> Subject:
    """What others are told of a release."""
    return Subject(
        release=plan.name,
        service=plan.service,
        stable=plan.stable,
        target=plan.target,
        phase=state.phase,
        step=state.step,
        share=state.share,
        window_s=window_s,
        why=state.why,
    )
