"""Owns how services log: one JSON object a line on stderr, written by a thread of its own. Refuses to print a secret.

A line is made where it is logged (there the trace context is known and nothing can change any more) and written
elsewhere: a reader of stderr that stands still never stops the event loop. Then lines are dropped and counted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import threading
import traceback
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

from paymesh.payments.secrets import Secret
from paymesh.server.trace import current_trace

MAX_WAITING_LINES = 20_000
GATHER_S = 0.02
"""Seconds a line waits at most before it is written."""
_FIXED = frozenset({"ts", "level", "service", "event", "trace_id", "span_id"})
# Up to the end marker, or up to the end of the JSON string if the key was cut off. Never past an escaped quote.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----"
    r'(?:(?:[^"\\]|\\[^"])*?-----END [A-Z0-9 ]*PRIVATE KEY-----|(?:[^"\\]|\\[^"])*)'
)
# A credential in somebody else's text (an exception's, a library's), to the end of that text: it may hold quotes.
_SCHEME_ENDINGS = ("RSA2048 ", "withRSA ", "earer ", "asic ")  # looked for first: the pattern takes 14 us a line
_AUTHORIZATION = re.compile(r"(?i)\b(WECHATPAY2-SHA256-RSA2048|ALIPAY-SHA256withRSA|Bearer|Basic) +(?:[^\"\\]|\\.)+")


def log(logger: logging.Logger, event: str, **fields: object) -> None:
    """One line at level info: `event` names what happened, `fields` say the rest."""
    logger.info(event, extra={"fields": fields})


def describe_error(error: BaseException) -> str:
    """Type and place of an exception. Never its text, which may hold what was being read."""
    place = error_place(error)
    return type(error).__name__ if place is None else f"{type(error).__name__} at {place}"


def error_place(error: BaseException) -> str | None:
    """`file:line` where the exception was raised; None if it never was."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


class JsonLines(logging.Formatter):
    """Makes a record into one line of JSON without secrets."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "event": record.getMessage(),
        }
        trace = current_trace()
        if trace is not None:
            line |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
        line |= _free_fields(record)
        if record.exc_info:
            line["error"] = "".join(traceback.format_exception(*record.exc_info))
        return redact(json.dumps(line, ensure_ascii=False, default=_printable, skipkeys=True))


def redact(text: str) -> str:
    """`text` (a JSON document) with every PEM private key and `Authorization` credential masked."""
    if "PRIVATE KEY-----" in text:
        text = _PRIVATE_KEY.sub("[private key]", text)
    if any(ending in text for ending in _SCHEME_ENDINGS):
        text = _AUTHORIZATION.sub(r"\1 [credential]", text)
    return text


def _free_fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, "fields", None)
    if not isinstance(fields, Mapping):
        return {}
    # What is not there is not said: None takes a line's room and tells nothing.
    return {str(name): value for name, value in fields.items() if value is not None and name not in _FIXED}


def _printable(value: object) -> str:
    # Bytes are bodies and keys here, never something to read.
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    return str(value)


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
    handler = _Handler()
    handler.setFormatter(JsonLines(service))
    writer = _Writer(handler.waiting)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    writer.start()
    _RUNNING = (handler, writer)


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
    logging.captureWarnings(False)
    logging.getLogger().removeHandler(handler)
    writer.stop()
    handler.close()
