"""Owns the W3C trace context of the call at hand, so that log lines carry its ids. Starts no spans, exports nothing."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Who called, as the caller says: lower-case hex ids of 32 and 16 digits."""

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(header: str | None) -> TraceContext | None:
    """The context in a `traceparent` header; None if absent or malformed (W3C Trace Context, section 3.2.2)."""
    found = None if header is None else _HEADER.fullmatch(header.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if set(trace_id) == {"0"} or set(span_id) == {"0"}:
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))


_CURRENT: ContextVar[TraceContext | None] = ContextVar("paymesh_trace", default=None)


def set_trace(context: TraceContext | None) -> None:
    """Make `context` the one of the running task. Each gRPC call runs in a task, and so in a context, of its own."""
    _CURRENT.set(context)


def current_trace() -> TraceContext | None:
    """The context of the running task."""
    return _CURRENT.get()
