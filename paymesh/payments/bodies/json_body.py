"""Owns the one reading of a JSON body, and finding values in it. Refuses what another parser could read differently.

Refused: duplicate members, anything but UTF-8 without a BOM, unpaired surrogates, NaN and numbers beyond a double,
too much depth, members or bytes, and anything after the document (RFC 8259; the "strict" end of RFC 7493, I-JSON).
An error tells where, never what: it holds no value and no member name of the body.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn

from paymesh.payments.bodies.errors import BodyError, BodyErrorKind
from paymesh.payments.bodies.limits import DEFAULT_LIMITS, BodyLimits
from paymesh.payments.bodies.pointer import JsonPointer

MAX_DOUBLE_EXPONENT = 308
_MAX_NUMBER_CHARACTERS = 128
_BOM = b"\xef\xbb\xbf"
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WHITE_SPACE = re.compile(r"[ \t\n\r]*")
_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class JsonDocument:
    """A body that was read. `value` has int, Decimal, str, bool, None, dict and list; `text` is what was read."""

    text: str
    value: object


class Missing(enum.Enum):
    """The type of MISSING, which is neither null nor false nor empty."""

    MISSING = enum.auto()


MISSING: Final = Missing.MISSING


def parse_json(
    body: bytes, limits: BodyLimits = DEFAULT_LIMITS, *, object_only: bool = False, charset: str = "utf-8"
) -> JsonDocument:
    """Read a body, or raise BodyError; no other exception, whatever the bytes. `charset` is a codec's name."""
    if len(body) > limits.max_bytes:
        raise BodyError(BodyErrorKind.SIZE, f"the body is longer than {limits.max_bytes} bytes")
    text = _decode(body, charset)
    value = _parse(text)
    if object_only and not isinstance(value, dict):
        raise BodyError(BodyErrorKind.NOT_OBJECT, "the top level is no object")
    check_shape((text,), value, limits)
    # json joins escaped pairs, so what is left of them in a string is half of one.
    if _SURROGATE_ESCAPE.search(body) and any(_SURROGATE.search(found) for found in _strings(value)):
        raise BodyError(BodyErrorKind.SURROGATE, "a string has half of a surrogate pair")
    return JsonDocument(text, value)


def lookup(value: object, pointer: JsonPointer) -> object:
    """The value at `pointer`, or MISSING. A decimal token also finds an array element (RFC 6901 section 4)."""
    for token in pointer:
        if isinstance(value, dict):
            value = value.get(token, MISSING)
        elif isinstance(value, list) and _ARRAY_INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return MISSING
    return value


def _decode(body: bytes, charset: str) -> str:
    if body.startswith(_BOM):
        raise BodyError(BodyErrorKind.ENCODING, "the body begins with a byte order mark")
    try:
        return body.decode(charset, "strict")
    except UnicodeDecodeError as error:
        raise BodyError(BodyErrorKind.ENCODING, f"the body is not {charset.upper()} at byte {error.start}") from None


def _parse(text: str) -> object:
    start = end_of_white_space(text, 0)
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise BodyError(BodyErrorKind.NOT_JSON, f"the body is not JSON at character {error.pos}") from None
    except RecursionError:
        raise BodyError(BodyErrorKind.DEPTH, "the body is nested too deep") from None
    end = end_of_white_space(text, end)
    if end != len(text):
        raise BodyError(BodyErrorKind.TRAILING_DATA, f"something follows the document at character {end}")
    return value


def end_of_white_space(text: str, position: int) -> int:
    """Where JSON's white space that begins at `position` ends."""
    if position < len(text) and text[position] not in " \t\n\r":
        return position  # as in nearly every place that is asked about
    match = _WHITE_SPACE.match(text, position)
    assert match is not None
    return match.end()


def check_shape(texts: Collection[str], value: object, limits: BodyLimits, parameters: int = 0) -> None:
    """BodyError(DEPTH, MEMBERS): the value is too deep, or has too many members.

    `texts`: all JSON that is in it; `parameters`: how many a form around them has.
    """
    # Brackets and commas bound depth and members from above, so an ordinary body is never walked.
    openings = sum(text.count("{") + text.count("[") for text in texts) + bool(parameters)
    if openings <= limits.max_depth:
        commas = sum(text.count(",") for text in texts)
        if openings + commas + parameters <= limits.max_members:
            return
    depth, members, level = 0, 0, [value]
    while level := [container for container in level if isinstance(container, dict | list)]:
        depth += 1
        level = [child for container in level for child in _children(container)]
        members += len(level)
        if depth > limits.max_depth:
            raise BodyError(BodyErrorKind.DEPTH, f"the body is nested deeper than {limits.max_depth}")
        if members > limits.max_members:
            raise BodyError(BodyErrorKind.MEMBERS, f"the body has more than {limits.max_members} members")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _strings(value: object) -> Iterator[str]:
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
        pending.extend(_children(value))


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BodyError(BodyErrorKind.DUPLICATE_KEY, "an object has the same member twice")
    if len(members) > 1:
        refuse_one_name_in_two_cases(members)
    return members


def refuse_one_name_in_two_cases(names: Collection[str]) -> None:
    """Raise BodyError for names that only case tells apart: Go's encoding/json, among others, takes them for one."""
    together = "".join(names)
    # Nearly every body's names: then the exact comparison has said all.
    if together.isascii() and (together.islower() or together.isdigit()):
        return
    if len({name.casefold() for name in names}) != len(names):
        raise BodyError(BodyErrorKind.DUPLICATE_KEY, "two names differ in case only")


def _integer(token: str) -> int:
    _check_number(token)
    return int(token)


def _decimal(token: str) -> Decimal:
    _check_number(token)
    try:
        number = Decimal(token)
    except InvalidOperation:
        _refuse_number()
    # Beyond a double one parser reads Infinity, another an exact number that takes gigabytes as an integer.
    if not -MAX_DOUBLE_EXPONENT <= number.adjusted() <= MAX_DOUBLE_EXPONENT:
        _refuse_number()
    return number


def _check_number(token: str) -> None:
    if len(token) > _MAX_NUMBER_CHARACTERS:
        _refuse_number()


def _refuse_number(_token: str = "") -> NoReturn:
    raise BodyError(BodyErrorKind.NUMBER, "a number is NaN, infinite or too large to be read alike everywhere")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_decimal, parse_constant=_refuse_number
)
