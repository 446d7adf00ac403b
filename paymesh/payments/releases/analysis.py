"""Owns judging a new version by what both versions did meanwhile: rates against the stable one's, with a bound on how
far chance may lead, and latencies. Pure arithmetic on counts; where they come from is somebody else's.

Sources: the score interval of one rate (Wilson, 1927) and of the difference of two (Newcombe, Statistics in Medicine
17 (1998) 873-890, method 10), which hold for few payments and for rates near 100% too.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist


class Verdict(enum.StrEnum):
    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """Too little was seen: a hold goes on."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one version: so many payments, or requests, went well of all that say something."""

    well: int
    total: int

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.well + other.well, self.total + other.total)


@dataclass(frozen=True, slots=True)
class RateRule:
    """The target may be worse than the stable version by `max_drop` at most, in parts of 1. `confidence`: of the bound,
    0.5 to 1. `min_sample`: so many of each version before anything is said."""

    name: str
    max_drop: float
    confidence: float = 0.95
    min_sample: int = 100


@dataclass(frozen=True, slots=True)
class LatencyRule:
    """The `quantile` of the target may be `max_ratio` times the stable version's, or `max_ms`, whichever is allowed
    more; None: that bound does not allow anything."""

    name: str
    quantile: float
    max_ratio: float | None = None
    max_ms: int | None = None
    min_sample: int = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says, and why, in words for a person."""

    rule: str
    verdict: Verdict
    why: str


Histogram = Mapping[int, int]
"""Exchanges by the upper bound of their bucket in milliseconds."""


def judge_rate(rule: RateRule, stable: Counted, target: Counted) -> Finding:
    """FAIL when the target is worse by more than allowed beyond doubt, PASS when it is not beyond doubt."""
    shown = f"stable {_percent(stable)}, target {_percent(target)}"
    if min(stable.total, target.total) < rule.min_sample:
        return Finding(rule.name, Verdict.INCONCLUSIVE, f"{shown}: fewer than {rule.min_sample}")
    low, high = difference_bounds(stable, target, rule.confidence)
    allowed = f"{rule.max_drop:.2%} allowed"
    if low > rule.max_drop:
        return Finding(rule.name, Verdict.FAIL, f"{shown}: worse by {low:.2%} at least, {allowed}")
    if high <= rule.max_drop:
        return Finding(rule.name, Verdict.PASS, f"{shown}: worse by {max(high, 0):.2%} at most, {allowed}")
    return Finding(rule.name, Verdict.INCONCLUSIVE, f"{shown}: worse by {low:.2%} to {high:.2%}, {allowed}")


def judge_latency(rule: LatencyRule, stable: Histogram, target: Histogram) -> Finding:
    """By upper bounds of buckets: a quantile is never told better than it is."""
    if min(sum(stable.values()), sum(target.values())) < rule.min_sample:
        return Finding(rule.name, Verdict.INCONCLUSIVE, f"fewer than {rule.min_sample}")
    was, now = quantile(stable, rule.quantile), quantile(target, rule.quantile)
    bounds = [rule.max_ms] if rule.max_ms is not None else []
    if rule.max_ratio is not None:
        bounds.append(math.ceil(was * rule.max_ratio))
    allowed = max(bounds, default=0)
    verdict = Verdict.PASS if now <= allowed else Verdict.FAIL
    return Finding(rule.name, verdict, f"p{rule.quantile * 100:g}: stable {was} ms, target {now} ms, {allowed} allowed")


def overall(findings: Sequence[Finding]) -> Verdict:
    """One FAIL is enough; without any finding, or with one that is open, nothing is said yet."""
    verdicts = [finding.verdict for finding in findings]
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if verdicts and set(verdicts) == {Verdict.PASS} else Verdict.INCONCLUSIVE


def difference_bounds(stable: Counted, target: Counted, confidence: float) -> tuple[float, float]:
    """By how much the target is worse, at least and at most; each bound holds with this confidence."""
    one, two = stable.well / stable.total, target.well / target.total
    stable_low, stable_high = rate_bounds(stable, confidence)
    target_low, target_high = rate_bounds(target, confidence)
    apart = one - two
    low = apart - math.hypot(one - stable_low, target_high - two)
    high = apart + math.hypot(stable_high - one, two - target_low)
    return low, high


def rate_bounds(counted: Counted, confidence: float) -> tuple[float, float]:
    """Wilson's score bounds, one-sided each."""
    z, total = NormalDist().inv_cdf(confidence), counted.total
    rate = counted.well / total
    middle = rate + z * z / (2 * total)
    spread = z * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def quantile(histogram: Histogram, share: float) -> int:
    """The upper bound of the bucket in which it lies, milliseconds. ValueError for an empty histogram."""
    total = sum(histogram.values())
    if not total:
        raise ValueError("no exchange")
    needed, seen = math.ceil(share * total), 0
    for bound in sorted(histogram):
        seen += histogram[bound]
        if seen >= needed:
            return bound
    return max(histogram)


def _percent(counted: Counted) -> str:
    return "none" if not counted.total else f"{counted.well / counted.total:.2%} of {counted.total}"
