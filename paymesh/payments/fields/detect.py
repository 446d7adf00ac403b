"""Owns finding personal numbers and addresses in free text. Refuses escapes: what is percent-encoded or escaped in the
text has to be decoded before.

Digits of every script, full-width forms and invisible characters count as what they look like (text_forms). What is a
number and what only looks like one stands in numbers_in_text and digit_groups.
"""

from __future__ import annotations

from paymesh.payments.fields.emails_in_text import find_emails, skip_dots
from paymesh.payments.fields.found import Found
from paymesh.payments.fields.masking import mask
from paymesh.payments.fields.numbers_in_text import find_numbers, might_hold_number
from paymesh.payments.fields.text_forms import plain
from paymesh.payments.policy.field_rules import Detector, MaskKind

__all__ = ["Found", "find", "masked", "might_hold"]

_SHORTEST = len("a@b.cn")


def find(text: str, kinds: frozenset[Detector]) -> list[Found]:
    """What is in the text, ascending and without overlaps.

    Of what overlaps, a resident ID comes before a PAN, then a bank account, a phone, an e-mail address; but an address
    covers the numbers that stand in it as a whole (13812341234@163.com is an address).
    """
    if len(text) < _SHORTEST:
        return []
    text = plain(text)
    numbers = find_numbers(text, kinds)
    if "@" in text and Detector.EMAIL in kinds:
        return _with_emails(text, numbers)
    return numbers


def might_hold(text: str, kinds: frozenset[Detector]) -> bool:
    """False: `find` finds nothing in the text, nor in any part of it. Much cheaper than `find`."""
    if Detector.EMAIL in kinds and ("@" in text or "\uff20" in text):
        return True
    return might_hold_number(plain(text), kinds)


def masked(text: str, kinds: frozenset[Detector]) -> str:
    """The text with every find masked as its kind. Masking twice is masking once."""
    found = find(text, kinds)
    if not found:
        return text
    parts: list[str] = []
    end = 0
    for each in found:
        parts += text[end : each.start], mask(_MASKS[each.kind], text[each.start : each.end])
        end = each.end
    parts.append(text[end:])
    return "".join(parts)


def _with_emails(text: str, numbers: list[Found]) -> list[Found]:
    """The numbers and the addresses; of both where they overlap, what `find` says."""
    found: list[Found] = []
    at = 0
    for start, end in find_emails(text):
        while at < len(numbers) and numbers[at].end <= start:
            found.append(numbers[at])
            at += 1
        begin = start
        while at < len(numbers) and numbers[at].start < end:
            number = numbers[at]
            at += 1
            if number.start < start or number.end > end:
                found.append(number)
                begin = number.end
        if begin < end and text[skip_dots(text, begin)] != "@":
            found.append(Found(skip_dots(text, begin), end, Detector.EMAIL))
    return found + numbers[at:]


_MASKS = {
    Detector.PAN: MaskKind.PAN,
    Detector.PHONE: MaskKind.PHONE,
    Detector.RESIDENT_ID: MaskKind.RESIDENT_ID,
    Detector.EMAIL: MaskKind.EMAIL,
    Detector.BANK_ACCOUNT: MaskKind.BANK_ACCOUNT,
}
