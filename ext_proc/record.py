"""Owns what ext_proc leaves behind: one log line an event, and counters. Refuses values: names and verdicts only."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from ext_proc.messages import Checked, Phase
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.fields.sanitize import Change
from paymesh.payments.outcome import Fault, Reading
from paymesh.server.logs import describe_error

_LOG = logging.getLogger("ext_proc")
_NONE = "none"


class Record:
    """Log and counters. Labels come from the policy, by way of ext_authz, and from enums: bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._outcomes = Counter(
            "paymesh_ext_proc_outcomes",
            "Responses observed, by what they say about money.",
            ["route", "channel", "outcome"],
            registry=registry,
        )
        self._faults = Counter(
            "paymesh_ext_proc_faults",
            "Responses observed after which no money moved, by whose fault it is.",
            ["route", "channel", "fault"],
            registry=registry,
        )
        self._sanitized = Counter(
            "paymesh_ext_proc_sanitized",
            "Fields changed in bodies.",
            ["direction", "route", "action"],
            registry=registry,
        )
        self._answers = Counter(
            "paymesh_ext_proc_answers",
            "Answers that were to be changed, by what became of them.",
            ["route", "verdict"],
            registry=registry,
        )
        self._errors = Counter(
            "paymesh_ext_proc_errors", "Messages that could not be processed.", ["phase"], registry=registry
        )

    def outcome(self, checked: Checked, found: Reading) -> None:
        outcome, why, fault = found
        route, channel = checked.route or _NONE, checked.channel or _NONE
        self._outcomes.labels(route, channel, outcome.value).inc()
        if fault is not Fault.NONE:
            self._faults.labels(route, channel, fault.value).inc()
        steps = ("observe", outcome.value, why)
        _log("outcome", checked, steps, outcome=outcome.value, fault=fault.value, why=why)

    def sanitized(self, checked: Checked, changed: Sequence[Change]) -> None:
        names = self._count("request", checked, changed)
        verdict, why = ("changed", ", ".join(names)) if names else ("pass", "nothing to change")
        _log("sanitized", checked, ("sanitize", verdict, why), changed=names)

    def answered(self, checked: Checked, changed: Sequence[Change], *, signed: bool) -> None:
        """An answer was read; what was to be hidden in it is, and it is signed if it is to be."""
        names = self._count("answer", checked, changed)
        verdict = "changed" if names else "signed" if signed else "pass"
        self._answers.labels(checked.route, verdict).inc()
        why = ", ".join([*names, *(["signed"] if signed else [])]) or "nothing to change"
        _log("answered", checked, ("answer", verdict, why), changed=names, signed=signed)

    def not_changed(self, checked: Checked, why: str, *, withheld: bool) -> None:
        """An answer that was to be changed could not be: withheld, or passed as its route says."""
        verdict = "withheld" if withheld else "passed_unread"
        self._answers.labels(checked.route or _NONE, verdict).inc()
        _log("answered", checked, ("answer", verdict, why), level=logging.ERROR)

    def _count(self, direction: str, checked: Checked, changed: Sequence[Change]) -> list[str]:
        for change in changed:
            self._sanitized.labels(direction, checked.route, change.action.value).inc(change.times)
        return [str(change) for change in changed]

    def not_sanitized(self, checked: Checked | None, why: str) -> None:
        """The request was answered with 503 instead of going on unsanitised."""
        self._errors.labels(Phase.REQUEST_BODY.value).inc()
        _log("sanitized", checked or Checked(), ("sanitize", "unavailable", why), level=logging.ERROR)

    def not_converted(self, checked: Checked | None, denial: Denial) -> None:
        """A request could not be written as its channel's own: it was answered here, and nothing was sent."""
        self._errors.labels(Phase.REQUEST_HEADERS.value).inc()
        level = logging.ERROR if denial.reason is Reason.UNAVAILABLE else logging.INFO
        why = f"{denial.reason}: {denial.detail}"
        _log("converted", checked or Checked(), ("convert", "deny", why), level=level)

    def not_observed(self, phase: Phase, error: Exception) -> None:
        self._errors.labels(phase.value).inc()
        fields = {"phase": phase.value, "error": describe_error(error)}
        _LOG.error("response not observed", extra={"fields": fields})


def _log(
    event: str, checked: Checked, steps: tuple[str, str, str], *, level: int = logging.INFO, **more: object
) -> None:
    step, verdict, why = steps
    fields = {
        "request_id": checked.request_id,
        "route": checked.route,
        "channel": checked.channel or None,
        **more,
        "steps": [{"step": step, "verdict": verdict, "why": why}],
    }
    _LOG.log(level, event, extra={"fields": fields})
