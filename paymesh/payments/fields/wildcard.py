"""Owns pointers with `*`, which stands for every element of an array."""

from __future__ import annotations

from collections.abc import Iterator

from paymesh.payments.bodies.json_body import MISSING, lookup
from paymesh.payments.bodies.pointer import WILDCARD, JsonPointer


def places(value: object, pointer: JsonPointer) -> Iterator[JsonPointer]:
    """The pointers that this one stands for in `value`, in order; itself where it has no `*`, there or not."""
    if WILDCARD not in pointer:
        yield pointer
        return
    index = pointer.index(WILDCARD)
    items = lookup(value, pointer[:index])
    if items is MISSING or not isinstance(items, list):
        return
    for number in range(len(items)):
        head = (*pointer[:index], str(number))
        yield from ((*head, *rest) for rest in places(items[number], pointer[index + 1 :]))


def covers(pointer: JsonPointer, place: JsonPointer) -> bool:
    """Whether `place` is at or below what `pointer` stands for."""
    return len(pointer) <= len(place) and all(
        token in (WILDCARD, found) for token, found in zip(pointer, place, strict=False)
    )
