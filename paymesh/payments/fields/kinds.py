"""Owns what a valid value of each kind is (protocols.md section 5). Refuses to repeat a value in what it says of it.

Values are what a JSON tree holds. A kind is a text, except an amount and a timestamp, which may be whole numbers; a
number with a fraction is none of them, since another parser may read it as a float.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from paymesh.payments.china_time import china_seconds
from paymesh.payments.fields.china_numbers import is_mobile, is_resident_id, is_uscc
from paymesh.payments.fields.currency_codes import is_currency
from paymesh.payments.fields.pan import Pan
from paymesh.payments.fields.text_forms import compact, plain
from paymesh.payments.money import MAX_MINOR_UNITS
from paymesh.payments.policy.field_rules import Kind

_MAX_NUMBER_TEXT = 96
"""Characters of a number with its separators; a longer text is not looked at."""
_MAX_URL = 2048
_MAX_LOCAL = 64
_MAX_DOMAIN = 255
_MAX_LABEL = 63
ORDER_NO = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)
"""Also of app ids, which no protocol says more of."""
_MINOR_UNITS = re.compile(r"[0-9]{1,14}", re.ASCII)
_DECIMAL = re.compile(r"([0-9]{1,12})\.([0-9]{1,2})", re.ASCII)
_COUNTRY_CODE = re.compile(r"(?:\+|00)?86(?=1[0-9]{10}\Z)", re.ASCII)
_E164 = re.compile(r"\+(?!86)[1-9][0-9]{6,14}", re.ASCII)
_BANK_ACCOUNT = re.compile(r"[0-9A-Za-z]{6,32}", re.ASCII)
_SPACE_OR_CONTROL = re.compile("[\\s\x00-\x20\x7f-\x9f\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ud800-\udfff]")
# What RFC 5321 calls an atom, and with RFC 6531 every character beyond ASCII; no quoted local parts.
_LOCAL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+)*"
)
_LABEL = re.compile(r"[^\W_](?:[\w-]*[^\W_])?")
_RFC3339 = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})?(?:[Zz]|([+-])(\d{2}):(\d{2}))", re.ASCII
)
_CHINA = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}", re.ASCII)
_CHINA_COMPACT = re.compile(r"\d{14}", re.ASCII)
_UNIX = re.compile(r"[1-9](?:\d{9}|\d{12})", re.ASCII)
_SECONDS_DIGITS = 10


def problem(kind: Kind, value: object, today: datetime.date | None = None) -> str | None:
    """What is wrong with a value of a kind, without the value; None: it is valid.

    `today`: a resident ID's date of birth is not after it; None: any date of 1900 to 2099.
    """
    if kind is Kind.RESIDENT_ID and isinstance(value, str) and today is not None:
        valid = _resident_id(value, today)
    elif kind is Kind.AMOUNT:
        valid = _amount(value)
    elif kind is Kind.TIMESTAMP:
        valid = seconds_of(value) is not None
    else:
        valid = isinstance(value, str) and _CHECKS[kind](value)
    return None if valid else _PROBLEMS[kind]


def seconds_of(value: object) -> int | None:
    """A timestamp's Unix seconds, rounded down; None: it is none.

    RFC 3339 with an offset; `yyyy-MM-dd HH:mm:ss` and `yyyyMMddHHmmss` in China's time; Unix seconds of 10 digits or
    milliseconds of 13, as a number or a text.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        # Only so long that a text of it is short.
        value = str(value) if 0 < value < 10**13 else None
    if not isinstance(value, str) or len(value) > _MAX_NUMBER_TEXT:
        return None
    if _UNIX.fullmatch(value):
        return int(value[:_SECONDS_DIGITS])
    if _CHINA.fullmatch(value):
        return china_seconds(value, "%Y-%m-%d %H:%M:%S")
    if _CHINA_COMPACT.fullmatch(value):
        return china_seconds(value, "%Y%m%d%H%M%S")
    return _rfc3339_seconds(value)


def _rfc3339_seconds(text: str) -> int | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    offset_hours, offset_minutes = (int(match[8]), int(match[9])) if match[7] else (0, 0)
    if offset_hours > 23 or offset_minutes > 59 or second > 60:
        return None
    offset = (offset_hours * 3600 + offset_minutes * 60) * (-1 if match[7] == "-" else 1)
    try:
        # A leap second is the same Unix second as the one after it.
        before = datetime.datetime(year, month, day, hour, minute, 0, tzinfo=datetime.UTC)
    except ValueError:
        return None
    return int(before.timestamp()) + second - offset


def _order_no(text: str) -> bool:
    return ORDER_NO.fullmatch(text) is not None


def _amount(value: object) -> bool:
    """Whole minor units as a number or digits, or a decimal text of the currency's main unit."""
    if isinstance(value, int) and not isinstance(value, bool):
        return 0 < value <= MAX_MINOR_UNITS
    if not isinstance(value, str):
        return False
    if _MINOR_UNITS.fullmatch(value):
        return 0 < int(value) <= MAX_MINOR_UNITS
    match = _DECIMAL.fullmatch(value)
    return match is not None and 0 < int(match[1]) * 100 + int(match[2].ljust(2, "0")) <= MAX_MINOR_UNITS


def _pan(text: str) -> bool:
    pan = Pan.parse(text)
    return pan is not None and pan.is_card


def _phone(text: str) -> bool:
    number = _number(text)
    return is_mobile(_COUNTRY_CODE.sub("", number, count=1)) or _E164.fullmatch(number) is not None


def _resident_id(text: str, today: datetime.date | None = None) -> bool:
    return is_resident_id(_number(text), today)


def _uscc(text: str) -> bool:
    return is_uscc(_number(text))


def _bank_account(text: str) -> bool:
    return _BANK_ACCOUNT.fullmatch(_number(text)) is not None


def _ip(text: str) -> bool:
    # A zone (fe80::1%eth0) has a meaning on one machine only.
    if "%" in text or len(text) > _MAX_NUMBER_TEXT:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _email(text: str) -> bool:
    """The limits of RFC 5321 section 4.5.3.1, in octets; UTF-8 as in RFC 6531. No quoted local part or IP address."""
    if len(text) > _MAX_LOCAL + 1 + _MAX_DOMAIN or _SPACE_OR_CONTROL.search(text):
        return False
    local, at, domain = text.partition("@")
    return (
        bool(at)
        and "@" not in domain
        and len(local.encode()) <= _MAX_LOCAL
        and len(domain.encode()) <= _MAX_DOMAIN
        and _LOCAL.fullmatch(local) is not None
        and _domain(domain)
    )


def _domain(domain: str) -> bool:
    labels = domain.split(".")
    return (
        len(labels) > 1
        and all(len(label) <= _MAX_LABEL and _LABEL.fullmatch(label) for label in labels)
        and not labels[-1].isdecimal()
    )


def _url(text: str) -> bool:
    if len(text) > _MAX_URL or "\\" in text or _SPACE_OR_CONTROL.search(text):
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and port != 0


def _number(text: str) -> str:
    """A number without separators; nothing for a text that has a dot or is too long to be one."""
    return compact(text) if len(text) <= _MAX_NUMBER_TEXT and "." not in plain(text) else ""


_CHECKS: Mapping[Kind, Callable[[str], bool]] = {
    Kind.ORDER_NO: _order_no,
    Kind.CURRENCY: is_currency,
    Kind.PAN: _pan,
    Kind.PHONE: _phone,
    Kind.RESIDENT_ID: _resident_id,
    Kind.USCC: _uscc,
    Kind.BANK_ACCOUNT: _bank_account,
    Kind.IP: _ip,
    Kind.EMAIL: _email,
    Kind.URL: _url,
}
_PROBLEMS: Mapping[Kind, str] = {
    Kind.ORDER_NO: "is not an order number of 1 to 64 printable characters",
    Kind.AMOUNT: "is not an amount: whole minor units, or a text with at most two decimals",
    Kind.CURRENCY: "is not a currency code of ISO 4217",
    Kind.PAN: "is not a card number",
    Kind.PHONE: "is not a mainland mobile number, nor another country's with + before it",
    Kind.RESIDENT_ID: "is not a resident ID",
    Kind.USCC: "is not a unified social credit code",
    Kind.BANK_ACCOUNT: "is not a bank account of 6 to 32 letters and digits",
    Kind.IP: "is not an IP address",
    Kind.EMAIL: "is not an e-mail address",
    Kind.URL: "is not an absolute http or https URL",
    Kind.TIMESTAMP: "is not a timestamp",
}
