"""Owns joining serialised messages into a larger one, without parsing them again (protobuf encoding, wire type LEN)."""

from __future__ import annotations

from collections.abc import Iterable


def repeated(number: int, messages: Iterable[bytes]) -> bytes:
    """A repeated field of messages, to stand behind the other fields of a serialised message."""
    tag = _varint(number << 3 | 2)
    return b"".join(part for message in messages for part in (tag, _varint(len(message)), message))


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
