"""Owns what ext_proc leaves behind: one log line an event, and counters. Refuses values: names and verdicts only."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from ext_proc.messages import Checked, Phase
from paymesh.payments.fields.sanitize import Change
from paymesh.payments.outcome import Outcome
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
        self._sanitized = Counter(
            "paymesh_ext_proc_sanitized", "Fields changed in request bodies.", ["route", "action"], registry=registry
        )
        self._errors = Counter(
            "paymesh_ext_proc_errors", "Messages that could not be processed.", ["phase"], registry=registry
        )

    def outcome(self, checked: Checked, outcome: Outcome, why: str) -> None:
        self._outcomes.labels(checked.route or _NONE, checked.channel or _NONE, outcome.value).inc()
        _log("outcome", checked, ("observe", outcome.value, why), outcome=outcome.value, why=why)

    def sanitized(self, checked: Checked, changed: Sequence[Change]) -> None:
        for change in changed:
            self._sanitized.labels(checked.route, change.action.value).inc()
        names = [str(change) for change in changed]
        verdict, why = ("changed", ", ".join(names)) if names else ("pass", "nothing to change")
        _log("sanitized", checked, ("sanitize", verdict, why), changed=names)

    def not_sanitized(self, checked: Checked | None, why: str) -> None:
        """The request was answered with 503 instead of going on unsanitised."""
        self._errors.labels(Phase.REQUEST_BODY.value).inc()
        _log("sanitized", checked or Checked(), ("sanitize", "unavailable", why), level=logging.ERROR)

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
