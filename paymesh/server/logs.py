"""Owns how services log: one JSON object a line on stderr, written by a thread of its own. Refuses to print a secret.

A line is made where it is logged (there the trace context is known and nothing can change any more) and written
elsewhere: a reader of stderr that stands still never stops the event loop. Then lines are dropped and counted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType

from paymesh.server.redaction import OURS, outside_text, redact_fields, redact_text, suspicious
from paymesh.server.trace import current_trace

MAX_WAITING_LINES = 20_000
GATHER_S = 0.02
"""Seconds a line waits at most before it is written."""
_MAX_FRAMES = 30
_FIXED = frozenset({"ts", "level", "service", "event", "trace_id", "span_id"})
_OUR_LOGGERS = ("paymesh", "ext_authz", "ext_proc", "control_plane", "__main__")


def log(logger: logging.Logger, event: str, **fields: object) -> None:
    """One line at level info: `event` names what happened, `fields` say the rest."""
    logger.info(event, extra={"fields": fields})


def describe_error(error: BaseException) -> str:
    """Type and place of an exception. Never its text, which may hold what was being read."""
    place = error_place(error)
    return _kind(error) if place is None else f"{_kind(error)} at {place}"


def error_place(error: BaseException) -> str | None:
    """`file:line` where the exception was raised; None if it never was."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


def error_story(error: BaseException) -> list[str]:
    """An exception and its causes, the last one first: type, and every place on the way. Never their texts."""
    story: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        story.append(_kind(cause))
        frames = traceback.extract_tb(cause.__traceback__)
        story += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in reversed(frames[-_MAX_FRAMES:])]
        if isinstance(cause, BaseExceptionGroup):
            story += [f"  with {describe_error(inner)}" for inner in cause.exceptions]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return story


def _kind(error: BaseException) -> str:
    """The type; of an error of the system, its name too: `ConnectionRefusedError [ECONNREFUSED]`."""
    name = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
    return type(error).__name__ if name is None else f"{type(error).__name__} [{name}]"


class JsonLines(logging.Formatter):
    """Makes a record into one line of JSON without secrets and without anybody's personal data."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "event": _event(record),
        }
        trace = current_trace()
        if trace is not None:
            line |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
        free: dict[str, object] = {}
        for name, value in _fields(record):
            target = line if name in OURS and isinstance(value, str | int) else free
            target[name] = value
        if record.exc_info and record.exc_info[1] is not None:
            free["error"] = error_story(record.exc_info[1])
        head = json.dumps(line, ensure_ascii=False)
        return f"{head[:-1]}, {_free_part(free)[1:]}" if free else head


def _event(record: logging.LogRecord) -> str:
    name, _, _ = record.name.partition(".")
    return redact_text(record.getMessage()) if name in _OUR_LOGGERS else outside_text(record)


def _free_part(fields: Mapping[str, object]) -> str:
    """The fields as JSON. One look at the whole, for nearly every line is clean; at each value where it is not."""
    try:
        text = json.dumps(fields, ensure_ascii=False)
    except (TypeError, ValueError):  # something in them is no JSON: a secret, bytes, a set
        return json.dumps(redact_fields(fields), ensure_ascii=False)
    return json.dumps(redact_fields(fields), ensure_ascii=False) if suspicious(text) else text


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    fields = getattr(record, "fields", None)
    if not isinstance(fields, Mapping):
        return []
    # What is not there is not said: None takes a line's room and tells nothing.
    return [(str(name), value) for name, value in fields.items() if value is not None and name not in _FIXED]


class _Handler(logging.Handler):
    """Makes the line and leaves it for the writer; drops it when the writer is far behind."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0
        self.waiting: deque[str] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.waiting) >= MAX_WAITING_LINES:
            self.dropped += 1
            return
        try:
            self.waiting.append(self.format(record))
        except Exception:  # a log line that cannot be made must not fail a payment
            self.dropped += 1


class _Writer:
    """Writes what waits, many lines at a time, to whatever `sys.stderr` is now.

    It looks every GATHER_S instead of being woken for each line: waking a thread costs more than the line, and in
    Python the two would then fight for the interpreter (seen: a third of ext_authz's CPU).
    """

    def __init__(self, waiting: deque[str]) -> None:
        self._waiting = waiting
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=1)  # longer only if nobody reads stderr

    def _run(self) -> None:
        while not self._stop.wait(GATHER_S):
            self._write()
        self._write()

    def _write(self) -> None:
        # As many as wait now: a stream of new lines must not keep them from being written.
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not lines:
            return
        # Nobody reads us any more: a service goes on without its log.
        with contextlib.suppress(OSError, ValueError):
            # A lone surrogate, which a header may hold, cannot be encoded; this makes it JSON's own escape.
            sys.stderr.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace").decode())
            sys.stderr.flush()


_RUNNING: tuple[_Handler, _Writer] | None = None


def configure_logging(service: str, level: str) -> None:
    """Send every logger's records to stderr as JSON lines. `level`: debug, info, warning or error."""
    global _RUNNING
    stop_logging()
    guard_crashes(service)
    handler = _Handler()
    handler.setFormatter(JsonLines(service))
    writer = _Writer(handler.waiting)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    writer.start()
    _RUNNING = (handler, writer)


def guard_crashes(service: str) -> None:
    """What Python itself would print, with an exception's text, is told as one line: type and places.

    Of the main thread, of others, of finalisers; and warnings. Before `configure_logging`, too: a policy is read then.
    """
    lines = JsonLines(service)

    def tell(event: str, error: BaseException | None, level: int = logging.CRITICAL, **fields: object) -> None:
        caught = None if error is None else (type(error), error, error.__traceback__)
        record = logging.LogRecord(__name__, level, __file__, 0, event, None, caught)
        record.fields = fields
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(lines.format(record) + "\n")
            sys.stderr.flush()

    def uncaught(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            tell("crashed", error)

    def uncaught_in_thread(hook: threading.ExceptHookArgs) -> None:
        if not issubclass(hook.exc_type, SystemExit):
            tell("thread crashed", hook.exc_value, thread=getattr(hook.thread, "name", None))

    def unraisable(hook: sys.UnraisableHookArgs) -> None:
        tell("exception in a finaliser", hook.exc_value, logging.ERROR)

    def warned(_: Warning | str, kind: type[Warning], file: str, line: int, *_more: object) -> None:
        # Its text may hold what was being read (pydantic's does).
        tell("warning", None, logging.WARNING, kind=kind.__name__, place=f"{file}:{line}")

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, uncaught_in_thread, unraisable
    warnings.showwarning = warned  # type: ignore[assignment]  # it is called by position


def dropped_lines() -> int:
    """Lines lost since the start: the writer was too far behind."""
    return 0 if _RUNNING is None else _RUNNING[0].dropped


def stop_logging() -> None:
    """Write what waits and stop the writer. Logging afterwards goes nowhere."""
    global _RUNNING
    if _RUNNING is None:
        return
    handler, writer = _RUNNING
    _RUNNING = None
    if handler.dropped:
        logging.getLogger(__name__).warning("log_lines_dropped", extra={"fields": {"lines": handler.dropped}})
    logging.getLogger().removeHandler(handler)
    writer.stop()
    handler.close()
