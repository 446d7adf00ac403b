"""Owns what is kept of a release for people: Markdown with who, why, weights over time, exposure and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from paymesh.payments.percent import format_percent
from paymesh.payments.releases.exposure import Exposure
from paymesh.payments.releases.history import Entry, end_of
from paymesh.payments.releases.plan import Plan
from paymesh.payments.releases.words import money_in_words, step_in_words, step_number

_ESCAPED = {ord(one): f"\\{one}" for one in r"\`*_{}[]<>#|~&"}


def receipt(plan: Plan, history: Sequence[Entry], exposure: Mapping[str, Exposure]) -> str:
    """Of the release's last run. `exposure`: by version. Raises ValueError without an entry that it began with."""
    entries = history[max(index for index, entry in enumerate(history) if entry.before is None) :]
    return "\n".join(
        [*_head(plan, entries), *_exposed(plan, exposure), *_weights(plan, entries), *_events(entries), ""]
    )


def _head(plan: Plan, entries: Sequence[Entry]) -> Iterator[str]:
    begun, last, end = entries[0], entries[-1], end_of(entries)
    state = last.after
    yield f"# Release {_text(plan.name)}: {state.phase.replace('_', ' ')}"
    yield ""
    yield f"- Service {_text(plan.service)}, from {_text(plan.stable)} to {_text(plan.target)} ({plan.kind})"
    yield f"- Begun {_at(begun.at_s)} by {_text(begun.who)}: {_text(begun.what)}"
    when = f"Last change {_at(last.at_s)}" if end is None else f"Ended {_at(end.at_s)}"
    yield f"- {when}: {_text(state.why or last.what)}"
    yield f"- Steps: {', '.join(_text(step_in_words(step)) for step in plan.steps)}"
    yield ""


def _exposed(plan: Plan, exposure: Mapping[str, Exposure]) -> Iterator[str]:
    yield "## Exposed"
    yield ""
    yield "| Version | Requests | Errors | Payments | Failed | Amount |"
    yield "|---|---:|---:|---:|---:|---:|"
    for version in (plan.stable, plan.target):
        seen = exposure.get(version, Exposure())
        amounts = ", ".join(money_in_words(seen.amounts[one], one) for one in sorted(seen.amounts))
        counts = f"{seen.requests} | {seen.errors} | {seen.payments} | {seen.payments_failed}"
        yield f"| {_text(version)} | {counts} | {amounts or 'none'} |"
    yield ""


def _weights(plan: Plan, entries: Sequence[Entry]) -> Iterator[str]:
    """Each time that the target was given another share, and when all nodes had it."""
    yield "## Weights"
    yield ""
    yield "| Set | Confirmed | Weight | Phase | Step |"
    yield "|---|---|---:|---|---:|"
    for entry in entries:
        state = entry.after
        if entry.before is not None and entry.before.seq == state.seq:
            continue
        if not state.seq:
            continue
        confirmed = next((one.at_s for one in entries if one.after.applied == state.seq), None)
        when = "never" if confirmed is None else _at(confirmed)
        step = step_number(plan, state.step)
        yield f"| {_at(entry.at_s)} | {when} | {format_percent(state.share)}% | {state.phase} | {step} |"
    yield ""


def _events(entries: Sequence[Entry]) -> Iterator[str]:
    yield "## What happened"
    yield ""
    yield "| When | Who | What | Then |"
    yield "|---|---|---|---|"
    for entry in entries:
        yield f"| {_at(entry.at_s)} | {_text(entry.who)} | {_text(entry.what)} | {entry.after.phase} |"


def _at(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(text: str) -> str:
    """People's own words, which neither break the table nor become markup."""
    return "".join(one if one.isprintable() else " " for one in text).translate(_ESCAPED)
