"""PROVISIONAL until the real editor lands: JSON only, so that the rest can be tried. Overwrite this file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl

from paymesh.payments.bodies.errors import BodyError, BodyErrorKind
from paymesh.payments.bodies.json_body import JsonDocument, lookup, parse_json
from paymesh.payments.bodies.json_edit import DROP, Drop, edit
from paymesh.payments.bodies.limits import Reading
from paymesh.payments.bodies.pointer import JsonPointer


@dataclass(frozen=True)
class Replace:
    text: str


@dataclass(frozen=True)
class Splice:
    parts: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class FilePart:
    length: int


Edit = Replace | Drop | Splice


class Body(Protocol):
    value: object

    def texts(self) -> Iterator[tuple[JsonPointer, str]]: ...
    def edit(self, edits: Mapping[JsonPointer, Edit]) -> bytes: ...


class _Json:
    def __init__(self, body: bytes, document: JsonDocument) -> None:
        self._body, self._document = body, document
        self.value = document.value

    def texts(self) -> Iterator[tuple[JsonPointer, str]]:
        yield from _walk((), self.value)

    def edit(self, edits: Mapping[JsonPointer, Edit]) -> bytes:
        written: dict[JsonPointer, str | Drop] = {}
        for pointer, one in edits.items():
            if isinstance(one, Splice):
                text = str(lookup(self.value, pointer))
                for start, end, new in reversed(one.parts):
                    text = text[:start] + new + text[end:]
                written[pointer] = json.dumps(text, ensure_ascii=False)
            elif isinstance(one, Replace):
                written[pointer] = json.dumps(one.text, ensure_ascii=False)
            elif isinstance(lookup(self.value, pointer[:-1]), list):
                written[pointer] = "null"
            else:
                written[pointer] = DROP
        return edit(self._document, written).encode() if written else self._body


def _walk(at: JsonPointer, value: object) -> Iterator[tuple[JsonPointer, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk((*at, name), inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk((*at, str(number)), inner)
    elif value is not None and not isinstance(value, bool):
        yield at, str(value)


def read_body(body: bytes, content_type: str | None, reading: Reading, *, object_only: bool = True) -> Body:
    if reading.always is None and (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise BodyError(BodyErrorKind.NOT_JSON, "the content-type is not application/json")
    return _Json(body, parse_json(body, reading.limits, object_only=object_only))


class _Query:
    def __init__(self, query: str) -> None:
        self._query = query
        self.value: object = dict(parse_qsl(query, keep_blank_values=True))

    def texts(self) -> Iterator[tuple[JsonPointer, str]]:
        yield from _walk((), self.value)

    def edit(self, edits: Mapping[JsonPointer, Edit]) -> bytes:
        raise NotImplementedError("provisional")


def read_query(query: str, reading: Reading) -> Body:
    return _Query(query)
