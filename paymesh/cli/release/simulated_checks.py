"""Owns how a simulation makes a plan's checks: rates and latencies judged as in earnest, others taken to pass."""

from __future__ import annotations

from collections.abc import Iterator

from paymesh.cli.release.simulated_traffic import Seen, World, latencies
from paymesh.payments.releases.analysis import Finding, Verdict, judge_latency, judge_rate
from paymesh.payments.releases.checks import Analysis, Check, Counting, LatencyCheck, RateCheck

_TAKEN = "taken to pass"


def findings(analysis: Analysis, world: World, seen: Seen) -> list[Finding]:
    """Each check's, in order."""
    return [_finding(check, world, seen) for check in analysis.checks]


def assumptions(analysis: Analysis) -> Iterator[str]:
    """What is not simulated, a line each."""
    for check in analysis.checks:
        match check:
            case RateCheck() if check.counting is Counting.OUTCOME:
                yield f"check {check.rule.name}: every payment that fails is taken to end as {check.outcome}"
            case RateCheck() | LatencyCheck():
                pass
            case _:
                yield f"check {check.name}: {check.url} is not asked; {_TAKEN}"


def _finding(check: Check, world: World, seen: Seen) -> Finding:
    match check:
        case RateCheck():
            return judge_rate(check.rule, seen.stable, seen.target)
        case LatencyCheck():
            stable, target = latencies(seen.stable, world.stable), latencies(seen.target, world.target)
            return judge_latency(check.rule, stable, target)
        case _:
            return Finding(check.name, Verdict.PASS, _TAKEN)
