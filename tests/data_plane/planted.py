"""Owns values that stand for people's data and for secrets, in every spelling, and searching bytes for all of them.

The values are of no person: numbers are made with the right check digits from a seed.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from paymesh.payments.fields.card_ranges import luhn_valid

_KINDS = ("pan", "phone", "resident_id", "email", "bank_account", "name", "cvv", "address", "token")
_EACH = 3
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643, section 4.2
_CHECKS = "10X98765432"
_SURNAMES, _GIVEN = "欧阳司徒诸葛", "璇玑琨瑜翡翠瑾"


@dataclass(frozen=True)
class Planted:
    """Values by kind."""

    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def make(cls, seed: int) -> Planted:
        rng = random.Random(seed)
        return cls({kind: tuple(_make(kind, rng) for _ in range(_EACH)) for kind in _KINDS})

    def one(self, rng: random.Random, *kinds: str) -> str:
        """One of these kinds; of any kind if none is named."""
        return rng.choice(self.values[rng.choice(kinds or _KINDS)])

    def each(self) -> Iterable[tuple[str, str]]:
        return ((f"{kind} {value}", value) for kind, values in self.values.items() for value in values)


def _make(kind: str, rng: random.Random) -> str:
    def digits(count: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(count))

    match kind:
        case "pan":
            head = rng.choice(("622202", "411111", "543210")) + digits(9)
            return next(f"{head}{last}" for last in range(10) if luhn_valid(f"{head}{last}"))
        case "phone":
            return f"1{rng.choice('35789')}{digits(9)}"
        case "resident_id":
            head = f"110105{rng.randint(1950, 2005)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}{digits(3)}"
            weighted = sum(int(digit) * weight for digit, weight in zip(head, _WEIGHTS, strict=True))
            return head + _CHECKS[weighted % 11]
        case "email":
            return f"li.{digits(6)}@mail{digits(3)}.example.com"
        case "bank_account":
            return f"1{digits(18)}"
        case "name":
            return rng.choice(_SURNAMES) + "".join(rng.sample(_GIVEN, 3))
        case "cvv":
            return f"cvv{digits(7)}"  # a real one, of three digits, could not be told from any other number
        case "address":
            return f"北京市朝阳区{''.join(rng.sample(_GIVEN, 4))}路{digits(5)}号"
        case _:
            return f"tok_{rng.randbytes(15).hex()}"


def spellings(value: str | bytes) -> dict[str, bytes]:
    """Every way in which a value may stand in a log, a span, a database or a dump; by name."""
    if isinstance(value, bytes):
        return {"raw": value, **_encoded("", value)}
    found = {"raw": value.encode(), **_encoded("", value.encode())}
    escaped = json.dumps(value)[1:-1]
    found["JSON"] = escaped.encode()
    found["JSON in JSON"] = json.dumps(escaped)[1:-1].encode()
    found["gbk"] = value.encode("gbk")
    found |= _encoded("gbk ", value.encode("gbk"))
    found["full-width"] = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in value).encode()
    found["octal"] = "".join(chr(b) if b < 0x80 else f"\\{b:03o}" for b in value.encode()).encode()
    found["repr"] = repr(value.encode())[2:-1].encode()
    found["UTF-16"] = value.encode("utf-16-le")
    return found


def _encoded(prefix: str, raw: bytes) -> dict[str, bytes]:
    percent = quote(raw, safe="")
    found = {
        "percent": percent.encode(),
        "percent, small": percent.lower().encode() if "%" in percent else percent.encode(),
        "percent twice": quote(percent, safe="").encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
    }
    for shift in range(3):
        # In the middle of other bytes: the digits that depend on them cut off.
        text = base64.b64encode(b"\0" * shift + raw)
        core = text[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]
        found[f"base64 {shift}"] = core
        found[f"base64url {shift}"] = core.translate(bytes.maketrans(b"+/", b"-_"))
    return {prefix + name: spelling for name, spelling in found.items()}


class Search:
    """Finds every value, in every spelling, in bytes. `more`: further values by label, such as the contents of keys."""

    def __init__(self, planted: Planted, more: Mapping[str, bytes]) -> None:
        patterns: dict[bytes, str] = {}
        for label, value in (*planted.each(), *more.items()):
            for spelling, pattern in spellings(value).items():
                assert len(pattern) >= 8, f"{label} in {spelling} would be found by chance"
                patterns.setdefault(pattern, f"{label} ({spelling})")
        self._patterns = patterns

    def find(self, data: bytes) -> list[str]:
        """What of it is in the data, each with what surrounds its first place."""
        found = []
        for pattern, label in self._patterns.items():
            at = data.find(pattern)
            if at >= 0:
                around = data[max(0, at - 160) : at + len(pattern) + 40]
                found.append(f"{label}, {data.count(pattern)} times: {around!r}")
        return found
