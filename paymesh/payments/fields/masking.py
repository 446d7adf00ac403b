"""Owns what stays readable of a masked value. Refuses to pass through what it does not recognise.

Pure functions from text to text. A value that does not look like its kind becomes `***`, which tells not even its
length. What is already masked stays as it is. Sources: protocols.md section 5, PCI DSS 4.0.1 requirement 3.4.1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping

from paymesh.payments.fields.text_forms import compact, plain
from paymesh.payments.policy.field_rules import MaskKind

FULL_MASK = "***"
_MAX_LENGTH = 96
"""The digits of the longest number with separators between them all; what is longer is not looked at."""
# Stars are taken where digits will be hidden, so that masking twice is masking once.
_PHONE = re.compile(r"(?:\(?(?:\+|00)?86\)?)?(1[3-9]\d)[\d*]{4}(\d{4})", re.ASCII)
_RESIDENT_ID = re.compile(r"(\d{6})[\d*]{8}(\d{3}[\dXx])", re.ASCII)
_PAN = re.compile(r"(\d{6})([\d*]{2,9})(\d{4})", re.ASCII)
_ORDER_NO = re.compile(r"([\x21-\x7e]{4})([\x21-\x7e]{4,56})([\x21-\x7e]{4})", re.ASCII)
_BANK_ACCOUNT = re.compile(r"([0-9A-Za-z*]{4,30})([0-9A-Za-z]{4})", re.ASCII)
_SPACE = re.compile(r"\s")
_MASKED_LOCAL = re.compile(r"[^*]?\*\*\*")
_MAX_DOMAIN_DIGITS = 7
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def mask_phone(value: str) -> str:
    """A mainland mobile number, +86 or not, as 138****1234. What was never assigned (1[0-2]...) is masked whole."""
    match = _PHONE.fullmatch(_number(value))
    return FULL_MASK if match is None else f"{match[1]}****{match[2]}"


def mask_resident_id(value: str) -> str:
    """An 18-character resident ID (GB 11643): region and last four. The check digit is not verified."""
    match = _RESIDENT_ID.fullmatch(_number(value))
    return FULL_MASK if match is None else f"{match[1]}********{match[2]}"


def mask_pan(value: str) -> str:
    """A card number of 12 to 19 digits: BIN and last four. Luhn is not asked: a mistyped PAN is still one."""
    match = _PAN.fullmatch(_number(value))
    return FULL_MASK if match is None else f"{match[1]}{'*' * len(match[2])}{match[3]}"


def mask_bank_account(value: str) -> str:
    """The last four of an account number or IBAN of 8 to 34 letters and digits: no more than half is ever shown."""
    match = _BANK_ACCOUNT.fullmatch(_number(value))
    return FULL_MASK if match is None else f"{'*' * len(match[1])}{match[2]}"


def mask_email(value: str) -> str:
    """First character and domain, a***@example.com; ***@example.com where there is only one character.

    A domain with more than seven digits may be a number: only its last label is shown.
    """
    local, at, domain = plain(value).rpartition("@")
    if not at or _SPACE.search(value):
        return FULL_MASK
    name, dot, last_label = domain.rpartition(".")
    if not name or not last_label or "*" in last_label or _digits(last_label) > _MAX_DOMAIN_DIGITS:
        return FULL_MASK
    if not _MASKED_LOCAL.fullmatch(local):
        local = (local[0] if len(local) > 1 and local[0] != "*" else "") + FULL_MASK
    if _digits(name) > _MAX_DOMAIN_DIGITS or "*" in name:
        name = FULL_MASK
    return f"{local}@{name}{dot}{last_label}"


def mask_name(value: str) -> str:
    """The first character: two stars follow a Han one, three any other. They do not tell the length."""
    name = value.strip()
    first = name[:1]
    if len(name) < 2 or not first.isalpha():
        return FULL_MASK
    return first + ("**" if _HAN.match(first) else "***")


def mask_order_no(value: str) -> str:
    """First and last four of at least 12 characters, so that no more than two thirds are ever shown."""
    match = _ORDER_NO.fullmatch(value)
    return FULL_MASK if match is None else f"{match[1]}{'*' * len(match[2])}{match[3]}"


def mask_all(_value: str) -> str:
    return FULL_MASK


def mask(kind: MaskKind, value: str) -> str:
    """The value masked as its kind."""
    return _MASKS[kind](value)


def _number(value: str) -> str:
    # NFKC makes circled and mathematical digits plain ones; it can also make a text longer, so long ones are not read.
    return compact(unicodedata.normalize("NFKC", value)) if len(value) <= _MAX_LENGTH else ""


def _digits(text: str) -> int:
    return sum(character.isdecimal() for character in text)


_MASKS: Mapping[MaskKind, Callable[[str], str]] = {
    MaskKind.PHONE: mask_phone,
    MaskKind.RESIDENT_ID: mask_resident_id,
    MaskKind.PAN: mask_pan,
    MaskKind.EMAIL: mask_email,
    MaskKind.BANK_ACCOUNT: mask_bank_account,
    MaskKind.NAME: mask_name,
    MaskKind.ORDER_NO: mask_order_no,
    MaskKind.ALL: mask_all,
}
