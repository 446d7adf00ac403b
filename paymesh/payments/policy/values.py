"""Owns what policy documents are made of: scalars as an operator writes them, references to secrets and files.

Refuses I/O, and whatever would be guessed: durations without unit, weights that are floats, secrets in clear.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from paymesh.payments.bodies.pointer import parse_pointer
from paymesh.payments.percent import parse_percent
from paymesh.payments.policy.compiled import TOTAL_WEIGHT

_INTERPOLATION = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_DURATION = re.compile(r"^(\d+)(ms|s)$")


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """Replace `${NAME}` and `${NAME:-default}`; raises ValueError for a name that is unset and has no default."""

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = environ.get(name, default)
        if found is None:
            raise ValueError(f"environment variable {name} is not set and has no default")
        return found

    return _INTERPOLATION.sub(value, text)


def _interpolated(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    return interpolate(value, (info.context or {}).get("environ", {}))


def _port(value: object, info: ValidationInfo) -> object:
    found = _interpolated(value, info)
    return int(found) if isinstance(found, str) and found.isdecimal() and found.isascii() else found


def _milliseconds(value: object) -> object:
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration is a whole number with its unit, such as 500ms or 15s")
    return int(match.group(1)) * (1000 if match.group(2) == "s" else 1)


_SPAN = re.compile(r"^(\d{1,6})([smhd])$")
_SECONDS_IN = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _seconds(value: object) -> object:
    match = _SPAN.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a span of time is a whole number with its unit, such as 30s, 15m, 2h or 7d")
    return int(match.group(1)) * _SECONDS_IN[match.group(2)]


def _decimal(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        # ValueError, not TypeError: pydantic reports only the former.
        raise ValueError("a bound is a whole number, or a decimal in quotes such as '0.01': never a binary float")  # noqa: TRY004
    try:
        bound = Decimal(value)
    except InvalidOperation:
        raise ValueError("a bound is a whole number, or a decimal in quotes such as '0.01'") from None
    if not bound.is_finite():
        raise ValueError("a bound is finite")
    return bound


def _pattern(value: object) -> object:
    try:
        re.compile(value if isinstance(value, str) else "(")
    except re.error:
        raise ValueError("is not a regular expression") from None
    return value


def _pointer(value: object) -> object:
    return parse_pointer(value if isinstance(value, str) else "")


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _percent_to_weight(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        # ValueError, not TypeError: pydantic reports only the former.
        raise ValueError("a weight is a percentage such as 10 or '0.25' (quoted: never a binary float)")  # noqa: TRY004
    weight = parse_percent(str(value))
    if weight is None:
        raise ValueError("a weight is a percentage with at most two decimals, such as 10 or '0.25'")
    if weight > TOTAL_WEIGHT:
        raise ValueError("a weight is at most 100 percent")
    return weight


WRITTEN_AS: Mapping[object, str] = {
    _milliseconds: "duration",
    _percent_to_weight: "percentage",
    _pointer: "JSON pointer",
    _as_list: "JSON pointer, or a list of them",
    _port: "port",
    _seconds: "span of time",
    _decimal: "number, or decimal in quotes",
}
"""What a value is called where it is written otherwise than it is kept."""

NAME_PATTERN = r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:@-]{1,64}$")]
Interpolated = Annotated[str, BeforeValidator(_interpolated), StringConstraints(min_length=1)]
Port = Annotated[StrictInt, BeforeValidator(_port), Field(ge=1, le=65535)]
Milliseconds = Annotated[int, BeforeValidator(_milliseconds), Field(ge=1, le=300_000)]
Seconds = Annotated[int, BeforeValidator(_seconds), Field(ge=0, le=3_660 * 86_400)]
Bound = Annotated[Decimal, BeforeValidator(_decimal)]
Pattern = Annotated[str, BeforeValidator(_pattern)]
"""A regular expression of the whole value."""
Pointer = Annotated[tuple[str, ...], BeforeValidator(_pointer)]
Pointers = Annotated[tuple[Pointer, ...], BeforeValidator(_as_list), Field(min_length=1, max_length=4)]
Weight = Annotated[int, BeforeValidator(_percent_to_weight)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""ISO 4217 alphabetic code."""


class Document(BaseModel):
    # Integers and booleans below are strict: "5" is not 5, so that a typing slip is an error and not a guess.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SecretReference(Document):
    """Where a secret is: never the secret itself."""

    env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        None, description="Name of the environment variable that holds the secret."
    )
    file: Interpolated | None = Field(
        None, description="File that holds the secret, relative to this policy file. One trailing newline is dropped."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretReference:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret is given by exactly one of env and file")
        return self


class FileReference(Document):
    file: Interpolated = Field(description="File with the PEM text, relative to this policy file.")


PublicKeySource = Annotated[str, StringConstraints(min_length=1)] | FileReference
