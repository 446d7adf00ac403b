"""Owns finding e-mail addresses in free text. Refuses what only surrounds them, above all Chinese.

Texts are `plain` (text_forms). Local parts are ASCII letters, digits and `._%+-`, and accented letters; quoted ones,
those in other scripts and IDN domains that are not in their ASCII form are not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LOCAL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-") | {
    chr(code) for code in range(0xC0, 0x250)
}
"""What people have before the @, accented letters included. What else RFC 5321 allows would take in what surrounds."""
_MAX_LOCAL = 256
_DOMAIN = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+(?:xn--[A-Za-z0-9-]{2,58}|[A-Za-z]{2,24})"
# In a@b.cn@c.cn one address ends where the next has begun: they are one find.
_DOMAINS = re.compile(f"{_DOMAIN}(?:@{_DOMAIN})*", re.ASCII)
_MASKED_NUMBER = re.compile(r"[0-9A-Za-z]{1,4}", re.ASCII)


def find_emails(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every address, ascending and apart."""
    end = 0
    at = text.find("@")
    while at >= 0:
        start, floor = at, max(end, at - _MAX_LOCAL)
        while start > floor and text[start - 1] in _LOCAL:
            start -= 1
        start = skip_dots(text, start)
        domain = _DOMAINS.match(text, at + 1) if start < at else None
        if domain is not None and not _is_masked(text, start, at):
            end = domain.end()
            yield start, end
        at = text.find("@", at + 1)


def skip_dots(text: str, start: int) -> int:
    """Where a local part that begins at `start` or later can begin; there is an @ behind it."""
    while text[start] == ".":
        start += 1
    return start


def _is_masked(text: str, start: int, at: int) -> bool:
    """Whether what stands before the @ is the end of a number that is masked already."""
    return (
        text[start - 1 : start] == "*"
        and _MASKED_NUMBER.fullmatch(text, start, at) is not None
        and any(character.isdigit() for character in text[start:at])
    )
