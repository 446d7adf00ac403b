"""Owns the services' logs: one JSON object a line on stderr, written by a thread of its own.

The event loop never waits for the disk or a full pipe. The last thing that touches a line hides what must never
stand in one; that nobody puts it there is the first rule, this is the second.
"""

from __future__ import annotations

import datetime
import json
import logging
import logging.handlers
import queue
import re
import sys
from typing import TextIO

from paymesh.payments.secrets import Secret
from paymesh.server.trace import current_trace

MAX_QUEUED = 100_000
"""Lines. Beyond it lines are dropped and counted: a stuck log must not stop payments."""

_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL)
_AUTHORIZATION = re.compile(r"(?i)\b(WECHATPAY2-SHA256-RSA2048|Bearer|Basic)\s+[^\"\\]+")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: ts (RFC 3339, UTC), level, service, event, and the record's `fields`."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, object] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "event": record.getMessage(),
        }
        line.update(getattr(record, "trace_fields", {}))
        line.update({key: value for key, value in getattr(record, "fields", {}).items() if value is not None})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, ensure_ascii=False, default=_printable))


def redact(line: str) -> str:
    """Hide private keys and credentials that came in with somebody else's text."""
    if "PRIVATE KEY" in line:
        line = _PEM.sub("(private key)", line)
    return _AUTHORIZATION.sub(r"\1 (credential)", line)


def _printable(value: object) -> str:
    return repr(value) if isinstance(value, Secret) else str(value)


class _Queue(logging.handlers.QueueHandler):
    """Hands records to the writing thread; keeps the trace ids, which that thread does not know."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        trace = current_trace()
        if trace is not None:
            record.trace_fields = {"trace_id": trace.trace_id, "span_id": trace.span_id}
        return record

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's own name
        self.dropped += 1


class LogWriter:
    """The running log. `stop()` writes what is queued."""

    def __init__(self, service: str, level: str, stream: TextIO | None = None) -> None:
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(JsonFormatter(service))
        records: queue.Queue[logging.LogRecord] = queue.Queue(MAX_QUEUED)
        self._queue_handler = _Queue(records)
        self._listener = logging.handlers.QueueListener(records, handler)
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        root.handlers[:] = [self._queue_handler]
        root.setLevel(level.upper())
        self._listener.start()

    @property
    def dropped(self) -> int:
        """Lines lost because the queue was full."""
        return self._queue_handler.dropped

    def stop(self) -> None:
        root = logging.getLogger()
        root.handlers[:], level = self._before
        root.setLevel(level)
        self._listener.stop()


def configure_logging(service: str, level: str = "info", stream: TextIO | None = None) -> LogWriter:
    """Send every logger's records to `stream` (default: stderr) as JSON lines until `stop()`."""
    return LogWriter(service, level, stream)
