"""Owns the trace context of the request at hand (W3C Trace Context, level 1), so that log lines can be joined to traces.

Refuses to invent one: a request without a valid `traceparent` has none.
"""

from __future__ import annotations

import contextvars
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_CURRENT: contextvars.ContextVar[TraceContext | None] = contextvars.ContextVar("trace", default=None)


@dataclass(frozen=True, slots=True)
class TraceContext:
    trace_id: str
    """32 lower-case hex characters."""
    span_id: str
    """16 lower-case hex characters: the caller's span."""
    sampled: bool


def parse_traceparent(value: str | None) -> TraceContext | None:
    """The context in a `traceparent` header; None if it is absent or not valid (W3C Trace Context 3.2.2)."""
    match = _TRACEPARENT.fullmatch(value) if value is not None and len(value) <= 512 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))


def set_trace(context: TraceContext | None) -> None:
    """Make `context` the one of this task; log lines written from here on carry it."""
    _CURRENT.set(context)


def current_trace() -> TraceContext | None:
    return _CURRENT.get()
