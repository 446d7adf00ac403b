"""Owns reading the parameters of form protocols (Alipay, UnionPay) from a query and a form body, byte for byte.

Refuses whatever two readers could take differently: a name twice, a broken percent-escape, bytes that are not the
charset's, names outside ASCII. Source of the encoding: WHATWG URL, application/x-www-form-urlencoded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.form import CHARSETS, MEDIA_TYPE, parameters
from paymesh.payments.bodies.json_body import refuse_one_name_in_two_cases
from paymesh.payments.request import Request

MAX_PARAMETERS = 200

_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_.-]{0,63}")

Parameters = Mapping[str, bytes]
"""Decoded once; the values are bytes in the request's charset, exactly those that its signature covers."""


class FormError(Exception):
    """The parameters are not acceptable; the message names no value."""


def parse_parameters(encoded: bytes) -> Parameters:
    """One query or one form body. Raises FormError."""
    found: dict[str, bytes] = {}
    try:
        parts = parameters(encoded, MAX_PARAMETERS)
    except BodyError as error:
        raise FormError(str(error)) from None
    for raw_name, value, _ in parts:
        if value is None or not _NAME.fullmatch(raw_name):
            raise FormError("a parameter has no value, or a name that is not plain ASCII")
        name = raw_name.decode()
        if name in found:
            raise FormError(f"parameter {name} came twice")
        found[name] = value
    try:
        refuse_one_name_in_two_cases(found)
    except BodyError:
        raise FormError("two parameters have names that differ in case only") from None
    return found


def merged_parameters(request: Request) -> Parameters:
    """Query and form body together; a name in both must have one value. Raises FormError."""
    found = dict(parse_parameters(request.query.encode("utf-8", "surrogateescape")))
    if is_form(request):
        for name, value in parse_parameters(request.body).items():
            if found.setdefault(name, value) != value:
                raise FormError(f"parameter {name} differs between query and body")
    elif request.body:
        raise FormError(f"a body that is not {MEDIA_TYPE}")
    return found


def is_form(request: Request) -> bool:
    """Whether the body is a form. A GET may name any content type: it has no body."""
    content_type = request.header("content-type") or ""
    return bool(request.body) and _names_form(content_type)


def carries_form(request: Request) -> bool:
    """Whether a form is what the request carries, well or badly: unlike `is_form` it never raises."""
    return bool(request.body) and any(map(_names_form, request.headers.get("content-type", ())))


def joined(parameters: Parameters, without: frozenset[str], *, keep_empty: bool = False) -> bytes:
    """`k=v&k=v` sorted by name, un-encoded: the text that these protocols sign."""
    return b"&".join(
        name.encode() + b"=" + parameters[name]
        for name in sorted(parameters)
        if name not in without and (keep_empty or parameters[name])
    )


def deciding(*names: str) -> re.Pattern[bytes]:
    """What `check_one_reading` looks for: these parameters, wherever the text could be cut."""
    return re.compile(b"(?:\\A|&)(" + b"|".join(name.encode() for name in names) + b")=([^&]*)")


def check_one_reading(text: bytes, parameters: Parameters, names: re.Pattern[bytes]) -> None:
    """Refuse a text whose deciding parameters another cut would change. Raises FormError.

    Nothing is encoded in these texts, so `note=x&orderId=9` is one parameter or two: whoever holds a signed message
    could cut it elsewhere, and the signature would still verify. Other parameters may hold `&` and `=`: URLs do.
    """
    for name, value in names.findall(text):
        if parameters.get(name.decode()) != value:
            raise FormError(f"{name.decode()} could be read in two ways: a value holds `&` and a parameter's name")


def as_text(parameters: Parameters, charset: str) -> Mapping[str, str]:
    """The values as text, empty ones left out. Raises FormError for an unknown charset or bytes that are not its."""
    codec = CHARSETS.get(charset.lower())
    if codec is None:
        raise FormError("the charset is neither utf-8 nor gbk")
    try:
        return {name: value.decode(codec) for name, value in parameters.items() if value}
    except UnicodeDecodeError:
        raise FormError(f"a value is not {codec}") from None


def _names_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == MEDIA_TYPE
