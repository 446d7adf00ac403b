"""Owns finding PANs, resident IDs, phones and bank accounts in free text. Refuses part of an unbroken run of digits.

Texts are `plain` (text_forms). A number is one group of digits or several that follow one another (digit_groups), in
any grouping. What is decided by evidence and may be wrong either way:

- A PAN has a known BIN, a length of its scheme and a right check digit. UnionPay's of 16 to 19 digits beginning with 62
  need no check digit (protocols.md section 5), so UnionPay QR codes and order numbers beginning with 62 are found, too.
- A phone is a mainland mobile number, 1[3-9] and nine more, as the masks see it. ASCII letters may touch it only where
  they end with a word for a phone: TX13812341234 is an order number.
- A bank account needs a word for it before it, an IBAN its country's length and its check digits.
- Hexadecimal words of 24 characters or more and UUIDs hold no numbers.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from paymesh.payments.fields.card_ranges import MAX_DIGITS, MIN_DIGITS, UNIONPAY, luhn_valid, range_of
from paymesh.payments.fields.china_numbers import is_resident_id
from paymesh.payments.fields.digit_groups import Group, segments_of
from paymesh.payments.fields.found import Found
from paymesh.payments.fields.ibans import find_ibans, might_hold_iban
from paymesh.payments.fields.text_forms import SEPARATORS
from paymesh.payments.policy.field_rules import Detector

_MAX_ACCOUNT = 30
_MIN_ACCOUNT = 8
_MIN_NUMBER = 11
_MIN_HEXADECIMAL = 24
# Digits and separators, so many that the shortest number fits. One character class, so that it costs one pass.
_ACCOUNT_RUN = re.compile(rf"[0-9][0-9{SEPARATORS}]{{{_MIN_ACCOUNT - 1},}}+", re.ASCII)
_NUMBER_RUN = re.compile(rf"[0-9][0-9{SEPARATORS}]{{{_MIN_NUMBER - 1},}}+", re.ASCII)
_STRIPPED = " \t.-"
_NO_SEPARATORS = str.maketrans("", "", _STRIPPED)
_DATE = re.compile(r"(?:19|20)[0-9]{2}[-. ][01]?[0-9][-. ][0-3]?[0-9](?![0-9])", re.ASCII)
_MOBILE = re.compile(r"(?:0086|86)?(1[3-9][0-9]{9})", re.ASCII)
# What stands before the country code, or the country code itself where it is no part of the run of digits.
_COUNTRY_CODE = re.compile(rf"(?:[(\uff08](?:\+|00)?86[)\uff09][{SEPARATORS}]{{0,3}}|\+86[{SEPARATORS}]{{1,3}}|\+)\Z")
_LABEL = re.compile(
    r"(?:tel|telephone|phone|mobile|mob|cell|sms|fax|call|wechat|weixin|whatsapp|contact|(?<![a-z])(?:wx|vx|tl|m|t|p)|\\[nrt])\Z",
    re.IGNORECASE | re.ASCII,
)
_ACCOUNT_WORD = re.compile(r"(?:[账帐][号户]|卡号|银行卡|account|acct|a/c|iban|bank)[^0-9*]{0,12}\Z")
_ACCOUNT_REACH = 20
_WORD_BEFORE = re.compile(r"[0-9A-Za-z]+\Z", re.ASCII)
_WORD_AFTER = re.compile(r"[0-9A-Za-z]+", re.ASCII)
_WORD_REACH = 64
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]+", re.ASCII)
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)
_UUID_LENGTH = 36

_Candidate = tuple[int, int, Detector]
"""The groups `first` to `last`, both included."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The kinds as flags, and what finds the digits that could be one; None: no number is wanted."""

    pan: bool
    phone: bool
    resident_id: bool
    bank_account: bool
    run: re.Pattern[str] | None


@lru_cache(maxsize=64)
def _wanted(kinds: frozenset[Detector]) -> _Wanted:
    account = Detector.BANK_ACCOUNT in kinds
    number = bool(kinds - {Detector.EMAIL})
    return _Wanted(
        pan=Detector.PAN in kinds,
        phone=Detector.PHONE in kinds,
        resident_id=Detector.RESIDENT_ID in kinds,
        bank_account=account,
        run=_ACCOUNT_RUN if account else _NUMBER_RUN if number else None,
    )


def find_numbers(text: str, kinds: frozenset[Detector]) -> list[Found]:
    """The numbers of these kinds, ascending and apart."""
    wanted = _wanted(kinds)
    if wanted.run is None:
        return []
    if not wanted.bank_account:
        return _numbers(text, wanted, wanted.run)
    ibans = [Found(start, end, Detector.BANK_ACCOUNT) for start, end in find_ibans(text)]
    found = _numbers(_hidden(text, ibans), wanted, wanted.run)
    return sorted([*ibans, *found], key=lambda each: each.start) if ibans else found


def might_hold_number(text: str, kinds: frozenset[Detector]) -> bool:
    """False: there is none."""
    wanted = _wanted(kinds)
    if wanted.run is None:
        return False
    return wanted.run.search(text) is not None or (wanted.bank_account and might_hold_iban(text))


def _hidden(text: str, ibans: list[Found]) -> str:
    """The text with stars for the IBANs: their digits are no other number's."""
    if not ibans:
        return text
    parts: list[str] = []
    end = 0
    for iban in ibans:
        parts += text[end : iban.start], "*" * (iban.end - iban.start)
        end = iban.end
    parts.append(text[end:])
    return "".join(parts)


def _numbers(text: str, wanted: _Wanted, pattern: re.Pattern[str]) -> list[Found]:
    found: list[Found] = []
    for run in pattern.finditer(text):
        start = run.start()
        written = run[0].rstrip(_STRIPPED)
        digits = len(written) if written.isdigit() else len(written.translate(_NO_SEPARATORS))
        account = wanted.bank_account and digits >= _MIN_ACCOUNT and _account_word_before(text, start)
        if digits < _MIN_NUMBER and not account:
            continue
        if digits < len(written):
            segments = segments_of(text, start, start + len(written))
        elif digits <= MAX_DIGITS or account:
            segments = [([(start, start + digits)], False)]
        else:
            continue
        for groups, whole in segments:
            for first, last, kind in _numbers_of(text, groups, whole, wanted, found, account and groups[0][0] == start):
                found.append(_spanned(text, groups[first][0], groups[last][1], kind))
    return found


def _numbers_of(
    text: str, groups: list[Group], whole: bool, wanted: _Wanted, found: list[Found], account: bool
) -> list[_Candidate]:
    """The finds in a segment: those that cover the most digits together. `account`: a word for one stands before it."""
    digits = "".join([text[start:end] for start, end in groups])
    ends: dict[int, int] = {}
    starts = []
    offset = 0
    for index, (start, end) in enumerate(groups):
        starts.append(offset)
        offset += end - start
        ends[offset] = index
    candidates = [
        (first, last, kind)
        for first, start in enumerate(starts)
        for last, kind in _candidates(text, groups, digits, start, ends, wanted)
        if (not whole or (first == 0 and last == len(groups) - 1))
        and _stands_alone(text, groups[first][0], groups[last][1], kind, found)
    ]
    if account and not any(first == 0 and kind is not Detector.PHONE for first, _, kind in candidates):
        last = _end_of_account(groups, whole, candidates)
        if last is not None:
            others = [each for each in candidates if each[0] > last]
            return [(0, last, Detector.BANK_ACCOUNT), *_best(groups, others)]
    return _best(groups, candidates) if len(candidates) > 1 else candidates


def _candidates(
    text: str, groups: list[Group], digits: str, start: int, ends: dict[int, int], wanted: _Wanted
) -> Iterator[tuple[int, Detector]]:
    """The last group and the kind of whatever can begin with this group, the most specific first."""
    head = digits[start]
    if wanted.resident_id and head in "12345678":
        last = ends.get(start + 18)
        if last is not None and is_resident_id(digits[start : start + 18]):
            yield last, Detector.RESIDENT_ID
        elif (
            len(digits) == start + 17 and _check_character(text, groups[-1][1]) and is_resident_id(digits[start:] + "X")
        ):
            yield len(groups) - 1, Detector.RESIDENT_ID
    if wanted.pan and head in "234568" and len(digits) - start >= MIN_DIGITS:
        card_range = range_of(digits[start : start + 6])
        if card_range is not None:
            for length in card_range.lengths:
                last = ends.get(start + length)
                if last is not None and _is_pan(digits[start : start + length], card_range.scheme):
                    yield last, Detector.PAN
    if wanted.phone and head in "180":
        match = _MOBILE.match(digits, start)
        if match is not None and match.end() in ends:
            yield ends[match.end()], Detector.PHONE


def _is_pan(digits: str, scheme: str) -> bool:
    return (scheme == UNIONPAY and len(digits) >= 16 and digits[0] == "6") or luhn_valid(digits)


def _check_character(text: str, end: int) -> int:
    """How many characters after the digits the check character X of a resident ID ends; 0: there is none."""
    if text[end : end + 1] in ("X", "x"):
        return 1
    return 2 if text[end : end + 1] in (" ", "-") and text[end + 1 : end + 2] in ("X", "x") else 0


def _stands_alone(text: str, start: int, end: int, kind: Detector, found: list[Found]) -> bool:
    """Whether what touches the number lets it be one."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if kind is Detector.PHONE:
        if after.isascii() and after.isalpha():
            return False
        if before.isascii() and before.isalpha() and not (found and found[-1].end == start):
            return _LABEL.search(text, max(0, start - 10), start) is not None
    if (before.isalpha() or after.isalpha()) and _in_hexadecimal(text, start, end):
        return False
    return not ((before == "-" or after == "-" or "-" in text[start:end]) and _in_uuid(text, start, end))


def _in_hexadecimal(text: str, start: int, end: int) -> bool:
    """Whether the digits are part of a digest or an id: one word of hexadecimal digits, and a long one."""
    before = _WORD_BEFORE.search(text, max(0, start - _WORD_REACH), start)
    after = _WORD_AFTER.match(text, end, end + _WORD_REACH)
    word = (before[0] if before else "") + text[start:end] + (after[0] if after else "")
    return len(word) >= _MIN_HEXADECIMAL and _HEXADECIMAL.fullmatch(word) is not None


def _in_uuid(text: str, start: int, end: int) -> bool:
    window = max(0, start - _UUID_LENGTH)
    return any(uuid.start() <= start and end <= uuid.end() for uuid in _UUID.finditer(text, window, end + _UUID_LENGTH))


def _account_word_before(text: str, start: int) -> bool:
    return (
        _ACCOUNT_WORD.search(text[max(0, start - _ACCOUNT_REACH) : start].lower()) is not None
        and _DATE.match(text, start) is None
    )


def _end_of_account(groups: list[Group], whole: bool, candidates: list[_Candidate]) -> int | None:
    """The last of the groups from the first on that are one bank account; other numbers may follow it."""
    limit = min((first for first, _, _ in candidates if first > 0), default=len(groups))
    digits = list(accumulate(end - start for start, end in groups[:limit]))
    last = bisect_right(digits, _MAX_ACCOUNT) - 1
    if last < 0 or digits[last] < _MIN_ACCOUNT or (whole and last != len(groups) - 1):
        return None
    return last


def _best(groups: list[Group], candidates: list[_Candidate]) -> list[_Candidate]:
    """Of candidates that may overlap, those that cover the most digits; of equal ones, the earlier in the list."""
    by_first: dict[int, list[_Candidate]] = {}
    for candidate in candidates:
        by_first.setdefault(candidate[0], []).append(candidate)
    count = len(groups)
    # The digits before each group.
    before = list(accumulate((end - start for start, end in groups), initial=0))
    # covered[n]: how many digits from group n on can be covered; chosen[n]: by which candidate that begins at n.
    covered = [0] * (count + 1)
    chosen: list[_Candidate | None] = [None] * count
    for first in range(count - 1, -1, -1):
        covered[first] = covered[first + 1]
        for candidate in by_first.get(first, ()):
            cover = before[candidate[1] + 1] - before[first] + covered[candidate[1] + 1]
            if cover > covered[first]:
                covered[first], chosen[first] = cover, candidate
    best = []
    at = 0
    while at < count:
        candidate_here = chosen[at]
        if candidate_here is None:
            at += 1
        else:
            best.append(candidate_here)
            at = candidate_here[1] + 1
    return best


def _spanned(text: str, start: int, end: int, kind: Detector) -> Found:
    """The find with what belongs to it beside its digits: the check character, the country code."""
    if kind is Detector.RESIDENT_ID:
        digits = sum(character.isdigit() for character in text[start:end])
        return Found(start, end if digits == 18 else end + _check_character(text, end), kind)
    if kind is Detector.PHONE:
        code = _COUNTRY_CODE.search(text, max(0, start - 10), start)
        # Never so far that a mask's digits would touch others.
        if code is not None and not text[code.start() - 1 : code.start()].isdigit():
            start = code.start()
    return Found(start, end, kind)
