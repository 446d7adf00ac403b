"""Owns what may stand in a log line: values that identify a person, keys and credentials are masked on their way out.

It is the last line, not the first: whoever logs names names and counts, never values. Names of people, addresses and
short codes look like any text, so what others' code has to say is cut down to its template (`outside_text`).
"""

from __future__ import annotations

import datetime
import enum
import logging
import os
import re
import uuid
from collections.abc import Mapping, Set
from decimal import Decimal
from typing import Any
from urllib.parse import unquote_plus

from paymesh.payments.fields.detect import masked, might_hold
from paymesh.payments.fields.pan import Pan
from paymesh.payments.policy.field_rules import Detector
from paymesh.payments.secrets import Secret

OURS = frozenset(
    {
        "ts", "level", "service", "request_id", "trace_id", "span_id", "policy", "place", "route", "merchant",
        "channel", "step", "verdict", "decision", "reason", "outcome", "microseconds", "pid", "address",
    }
)  # fmt: skip
"""Fields that are never looked into: we or the policy made their values. A masked request id would find nothing."""
MAX_TEXT = 16_384
"""Characters of one value; what is longer is a body, and not for a log."""

_EVERY = frozenset(Detector)
# Up to the end marker, or up to the end of the text if the key was cut off.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:.*?-----END [A-Z0-9 ]*PRIVATE KEY-----|.*)", re.DOTALL
)
# A credential in somebody else's text (an exception's, a library's), to the end of that text: it may hold quotes.
_SCHEME_ENDINGS = ("RSA2048 ", "withRSA ", "earer ", "asic ")  # looked for first: the pattern takes 14 us a line
_AUTHORIZATION = re.compile(r"(?i)\b(WECHATPAY2-SHA256-RSA2048|ALIPAY-SHA256withRSA|Bearer|Basic) +.+", re.DOTALL)
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")  # a JWT: RFC 7515, section 3.1
_USERINFO = re.compile(r"://[^/\s@]+@")
_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})")
_QUOTED = re.compile(r"""(['"]).*\1|<.*>|\(.*\)|\{.*\}""", re.DOTALL)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


def suspicious(text: str) -> bool:
    """False: nothing in the text, nor in any part of it, would be masked. `text` may be a JSON document."""
    return (
        "%" in text
        or "\\" in text
        or "PRIVATE KEY-----" in text
        or any(ending in text for ending in _SCHEME_ENDINGS)
        or "eyJ" in text
        or len(text) > MAX_TEXT
        or might_hold(text, _EVERY)
    )


def redact_text(text: str) -> str:
    """The text with private keys, `Authorization` credentials and whatever the detectors find masked."""
    if text.isalpha() or not suspicious(text):
        return text
    if len(text) > MAX_TEXT:
        return f"[{len(text)} characters]"
    if "PRIVATE KEY-----" in text:
        text = _PRIVATE_KEY.sub("[private key]", text)
    if any(ending in text for ending in _SCHEME_ENDINGS):
        text = _AUTHORIZATION.sub(r"\1 [credential]", text)
    text = _USERINFO.sub("://[credential]@", _TOKEN.sub("[token]", text))
    # What is hidden by encoding is read as its receiver would; the text keeps its spelling if that finds nothing.
    for mark, decode in (("\\", _unescaped), ("%", unquote_plus)):
        decoded = decode(text) if mark in text else text
        hidden = masked(decoded, _EVERY)
        text = text if hidden == decoded else hidden
    return masked(text, _EVERY)


def redact(value: object) -> object:
    """The value as JSON can write it, every text in it redacted. What has no text that is ours is only named."""
    if type(value) is str:  # by far the most frequent; the patterns below take ten times as long
        return redact_text(value)
    match value:
        case None | bool():
            return value
        case enum.Enum():
            return redact(value.value)
        case str():
            return redact_text(value)
        case int() | float():
            return value if redact_text(str(value)) == str(value) else redact_text(str(value))
        case Mapping():
            return redact_fields(value)
        case list() | tuple():
            return [redact(item) for item in value]
        case Set():
            return sorted((redact(item) for item in value), key=str)
        case Secret():
            return "***"
        case bytes() | bytearray() | memoryview():
            # Bodies and keys here, never something to read.
            return f"[{len(value)} bytes]"
        case Pan() | Decimal() | datetime.date() | datetime.timedelta() | uuid.UUID() | os.PathLike():
            return redact_text(str(value))
        case _:
            return f"[{type(value).__name__}]"


def redact_fields(fields: Mapping[Any, object]) -> dict[str, object]:
    """Each field redacted but those of `OURS`; names that are no text are left out."""
    return {
        redact_text(str(name)): value if name in OURS and isinstance(value, str | int) else redact(value)
        for name, value in fields.items()
        if isinstance(name, str | int)
    }


def outside_text(record: logging.LogRecord) -> str:
    """What a record of a library says, without what it says it about: its template's first line, arguments by type.

    A library may have put values into the template itself: whatever stands in quotes or brackets goes, too.
    """
    template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
    try:
        text = template % _hidden(record.args) if record.args else template
    except (TypeError, ValueError, KeyError):
        text = template
    first, _, _ = text.partition("\n")
    return redact_text(_UNPRINTABLE.sub("?", _QUOTED.sub("[...]", first)))


class _Hidden:
    """Prints as the type of what it stands for."""

    def __init__(self, value: object) -> None:
        self._text = f"[{type(value).__name__}]"

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__


def _hidden(arguments: object) -> object:
    if isinstance(arguments, Mapping):
        return {name: _hidden_one(value) for name, value in arguments.items()}
    return tuple(_hidden_one(value) for value in arguments) if isinstance(arguments, tuple) else _hidden_one(arguments)


def _hidden_one(value: object) -> object:
    number = value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1_000_000)
    return value if number else _Hidden(value)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1] or match[2], 16)), text)
