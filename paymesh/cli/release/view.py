"""Owns how one release looks: where it stands, its steps, its findings, and what went to each version. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from control_plane.releases import releases_pb2 as pb
from paymesh.cli.release.glyphs import Glyphs, sparkline
from paymesh.cli.release.values import (
    NONE,
    actual_percent,
    amounts,
    moment,
    percent,
    plain,
    success_percent,
)
from paymesh.cli.table import table_lines
from paymesh.payments.releases.state import Phase
from paymesh.payments.releases.words import duration_in_words

SAMPLES_SHOWN = 30
_GOING_BACK = frozenset({str(Phase.ROLLING_BACK), str(Phase.ROLLED_BACK)})
_GOING_ON = frozenset({str(Phase.PROMOTING), str(Phase.PROMOTED)})
_DRAINING = frozenset({str(Phase.DRAINING), str(Phase.RETIRING)})


def view(release: pb.Release, now_s: int, glyphs: Glyphs) -> list[str]:
    """Lines for a terminal. `now_s`: Unix seconds, for what is left of a hold."""
    # A low terminal cuts the end: the steps are known beforehand.
    return [*_head(release, now_s), "", *_traffic(release, glyphs), *_findings(release), "", *_steps(release, glyphs)]


def _head(release: pb.Release, now_s: int) -> Iterator[str]:
    versions = f"{plain(release.stable)} -> {plain(release.target)}"
    facts = [
        ("Name", release.name),
        ("Service", f"{plain(release.service)}, {versions}, {release.strategy}"),
        ("Phase", _phase(release, now_s)),
        ("Why", plain(release.why) or NONE),
        ("Changed", moment(release.changed_at)),
        ("SetWeight", percent(release.set_weight)),
        ("ActualWeight", actual_percent(release)),
        ("Verdict", release.verdict or (NONE if release.analysed else "- (without analysis)")),
    ]
    if release.pins:
        facts.append(("Pins", str(release.pins)))
    if release.drill:
        facts.append(("Drill", plain(release.drill)))
    for name, value in facts:
        yield f"{name + ':':<14}{value}"


def _phase(release: pb.Release, now_s: int) -> str:
    if not release.hold_until:
        return str(release.phase)
    left_s = release.hold_until - now_s
    left = f"{duration_in_words(left_s)} left" if left_s > 0 else "over"
    return f"{release.phase} until {moment(release.hold_until)} ({left})"


def _steps(release: pb.Release, glyphs: Glyphs) -> Iterator[str]:
    yield f"Steps ({min(release.step, len(release.steps))} of {len(release.steps)} done)"
    for index, step in enumerate(release.steps):
        yield f"  {_mark(index, release, glyphs)} {index + 1:>2}  {plain(step)}"


def _mark(index: int, release: pb.Release, glyphs: Glyphs) -> str:
    if index != release.step:
        return glyphs.done if index < release.step else glyphs.to_come
    # Draining is the same phase in both directions; the weights say in which.
    drained_back = release.phase in _DRAINING and release.set_weight == 0
    if release.phase in _GOING_BACK or drained_back:
        return glyphs.stopped
    return glyphs.to_come if release.phase in _GOING_ON | _DRAINING else glyphs.now


def _findings(release: pb.Release) -> list[str]:
    if not release.findings:
        return []
    rows = [(plain(one.check), one.verdict, plain(one.why)) for one in release.findings]
    return ["", *table_lines([("CHECK", "VERDICT", "WHY"), *rows])]


def _traffic(release: pb.Release, glyphs: Glyphs) -> list[str]:
    rows = [("VERSION", "REQUESTS", "ERRORS", "PAYMENTS", "SUCCESS", "P99", "AMOUNT", "REQUESTS/ERRORS LATELY")]
    for one in release.traffic:
        samples = one.samples[-SAMPLES_SHOWN:]
        lines = (
            sparkline([sample.requests for sample in samples], glyphs.bars),
            sparkline([sample.errors for sample in samples], glyphs.bars),
        )
        row = (
            plain(one.version),
            str(one.requests),
            str(one.errors),
            str(one.payments),
            success_percent(one.payments - one.payments_failed, one.payments),
            f"{one.p99_ms} ms" if one.HasField("p99_ms") else NONE,
            amounts(one.amount),
            " ".join(lines) if samples else NONE,
        )
        rows.append(row)
    return table_lines(rows)
