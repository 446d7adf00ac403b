"""Owns what stays readable of a masked value, and keyed hashes. Refuses to pass through what it does not recognise.

Pure functions from text to text. A value that does not look like its kind becomes `***`, which tells not even its
length. What is already masked stays as it is. Sources: protocols.md section 5, PCI DSS 4.0.1 requirement 3.4.1.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable, Mapping

from paymesh.payments.policy.compiled import HashKey, MaskKind

FULL_MASK = "***"
HASH_PREFIX = "hk"
_MAX_LENGTH = 64
# Stars are taken where digits will be hidden, so that masking twice is masking once.
_PHONE = re.compile(r"(?:\+?86|0086)?(1[3-9]\d)[\d*]{4}(\d{4})", re.ASCII)
_RESIDENT_ID = re.compile(r"(\d{6})[\d*]{8}(\d{3}[\dXx])", re.ASCII)
_PAN = re.compile(r"(\d{6})([\d*]{2,9})(\d{4})", re.ASCII)
_ORDER_NO = re.compile(r"([\x21-\x7e]{4})([\x21-\x7e]{4,56})([\x21-\x7e]{4})", re.ASCII)
# Space and the dashes people type in numbers; NFKC has already made the other spaces U+0020.
_SEPARATORS = re.compile("[ \\-\u2010-\u2015\u2212]")


def mask_phone(value: str) -> str:
    """A mainland mobile number, +86 or not, as 138****1234. What was never assigned (1[0-2]...) is masked whole."""
    match = _PHONE.fullmatch(_plain(value))
    return FULL_MASK if match is None else f"{match[1]}****{match[2]}"


def mask_resident_id(value: str) -> str:
    """An 18-character resident ID (GB 11643): region and last four. The check digit is not verified."""
    match = _RESIDENT_ID.fullmatch(_plain(value))
    return FULL_MASK if match is None else f"{match[1]}********{match[2]}"


def mask_pan(value: str) -> str:
    """A card number of 12 to 19 digits: BIN and last four. Luhn is not asked: a mistyped PAN is still one."""
    match = _PAN.fullmatch(_plain(value))
    return FULL_MASK if match is None else f"{match[1]}{'*' * len(match[2])}{match[3]}"


def mask_order_no(value: str) -> str:
    """First and last four of at least 12 characters, so that no more than two thirds are ever shown."""
    match = _ORDER_NO.fullmatch(value)
    return FULL_MASK if match is None else f"{match[1]}{'*' * len(match[2])}{match[3]}"


def mask_all(_value: str) -> str:
    return FULL_MASK


def mask(kind: MaskKind, value: str) -> str:
    """The value masked as its kind."""
    return _MASKS[kind](value)


def keyed_hash(key: HashKey, value: str) -> str:
    """`hk:<key id>:<hex HMAC-SHA256 of the UTF-8 value>`.

    Not idempotent, on purpose: whoever could send something that looks hashed would choose what is stored.
    """
    digest = hmac.new(key.secret.reveal(), value.encode(), hashlib.sha256).hexdigest()
    return f"{HASH_PREFIX}:{key.id}:{digest}"


def _plain(value: str) -> str:
    # NFKC makes full-width digits plain ones; it can also make a text longer, so long ones are not looked at.
    return _SEPARATORS.sub("", unicodedata.normalize("NFKC", value)) if len(value) <= _MAX_LENGTH else ""


_MASKS: Mapping[MaskKind, Callable[[str], str]] = {
    MaskKind.PHONE: mask_phone,
    MaskKind.RESIDENT_ID: mask_resident_id,
    MaskKind.PAN: mask_pan,
    MaskKind.ORDER_NO: mask_order_no,
    MaskKind.ALL: mask_all,
}
