"""Owns finding international bank account numbers (ISO 13616). Refuses lengths that no country has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

# The IBAN registry: how many characters an IBAN of the country has.
_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
_HEAD = re.compile(r"[A-Z][A-Z][0-9][0-9](?=[ -]?[A-Z0-9])", re.ASCII)
_ANY = re.compile(r"[A-Z][A-Z][0-9][0-9][ -]?[A-Z0-9]{4}", re.ASCII)
_LABEL = "IBAN"


def find_ibans(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every IBAN in capital letters and ASCII digits, in groups or not, ascending."""
    after = 0
    for head in _HEAD.finditer(text):
        start = head.start()
        length = _LENGTHS.get(text[start : start + 2])
        if length is None or start < after or _touched(text, start):
            continue
        match = _of_length(length).match(text, start)
        if match is not None and _valid(re.sub("[ -]", "", match[0])):
            after = match.end()
            yield start, after


def might_hold_iban(text: str) -> bool:
    """False: there is none."""
    return _ANY.search(text) is not None


@cache
def _of_length(length: int) -> re.Pattern[str]:
    return re.compile(rf"[A-Z]{{2}}[0-9]{{2}}(?:[ -]?[A-Z0-9]){{{length - 4}}}(?![A-Za-z0-9*@])", re.ASCII)


def _touched(text: str, start: int) -> bool:
    if not start or not (text[start - 1].isascii() and text[start - 1].isalnum()):
        return False
    return not text.endswith(_LABEL, 0, start)


def _valid(iban: str) -> bool:
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1
