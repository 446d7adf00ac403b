"""Owns the ways people write the same digits: full-width and other scripts' digits, separators. Refuses meanings.

`plain` gives a text of the same length, character by character, so that what is found in it stands at the same place
in the text itself.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

SEPARATORS = " \t.\\-"
"""What may stand between the digits of one number, after `plain`; to be put inside [] of a pattern."""

# Everything that can be a digit, a separator or a full-width form is outside these: ASCII, Han, the usual punctuation.
_CURIOUS = re.compile("[^\x00-\x7f\u3001-\u3003\u3008-\u3011\u4e00-\u9fff\uff01-\uff0a\uff0c\uff1a-\uff1f]")
_SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
# Zero-width characters, the soft hyphen, what sets a direction, variation selectors and the keycap of emoji digits.
_UNSEEN = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff\u20e3"
_DASHES = "\u00b7\u02d7\u2010-\u2015\u2027\u2043\u2212\u30fb\ufe58\ufe63\uff0d"
_SPACE = re.compile(f"[{_SPACES}{_UNSEEN}]")
_DASH = re.compile(f"[{_DASHES}]")
_BETWEEN = re.compile(f"[{SEPARATORS}]")


def plain(text: str) -> str:
    """The text with every decimal digit, full-width letter, space and dash as its ASCII form; as long as the text."""
    if text.isascii() or _CURIOUS.search(text) is None:
        return text
    return _CURIOUS.sub(_plain_match, text)


def compact(text: str) -> str:
    """`plain` without the separators. The dot counts as one, so this is for numbers that have no fraction."""
    return _BETWEEN.sub("", plain(text))


def _plain_match(match: re.Match[str]) -> str:
    return _plain_character(match[0])


@lru_cache(maxsize=4096)
def _plain_character(character: str) -> str:
    if "\uff01" <= character <= "\uff5e" and character != "\uff0d":
        return chr(ord(character) - 0xFEE0)
    if _SPACE.match(character):
        return " "
    if _DASH.match(character):
        return "-"
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)
