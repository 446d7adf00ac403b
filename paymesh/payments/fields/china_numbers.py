"""Owns mainland numbers: mobile (the numbering plan), resident ID (GB 11643), USCC (GB 32100). Refuses other scripts.

All arguments are ASCII, without separators: see text_forms.
"""

from __future__ import annotations

import datetime
import re
from operator import mul

# 154, 174 (but for satellite's 1740), 179, 194, and most of 140-144 and 160-169 are nobody's.
_MOBILE = re.compile(r"1(?:(?:3[0-9]|4[5-9]|5[0-35-9]|6[2567]|7[0-35-8]|8[0-9]|9[0-35-9])[0-9]|740)[0-9]{7}", re.ASCII)
# GB/T 2260, with Hong Kong, Macao and Taiwan; 83 is in the residence permits of people from Taiwan.
_PROVINCE = "1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]"
_RESIDENT_ID = re.compile(
    rf"(?:{_PROVINCE})[0-9]{{4}}((?:19|20)[0-9]{{2}})([01][0-9])([0-3][0-9])[0-9]{{3}}[0-9Xx]", re.ASCII
)
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_SUM_OF_WEIGHTS = sum(_ID_WEIGHTS)
_ID_CHECKS = "10X98765432"
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC = re.compile(r"[1-9ANY][0-9A-HJ-NPQRTUWXY][0-9]{6}[0-9A-HJ-NPQRTUWXY]{10}", re.ASCII)


def is_mobile(digits: str) -> bool:
    """Whether 11 digits are a mobile number whose prefix is assigned."""
    return _MOBILE.fullmatch(digits) is not None


def is_resident_id(text: str, today: datetime.date | None = None) -> bool:
    """Whether 18 characters have a province, a date of birth and the right check character. `today`: born by then."""
    match = _RESIDENT_ID.fullmatch(text)
    if match is None:
        return False
    # 48 is the character 0.
    total = sum(map(mul, _ID_WEIGHTS, text[:17].encode())) - 48 * _SUM_OF_WEIGHTS
    if _ID_CHECKS[total % 11] != text[17].upper():
        return False
    try:
        born = datetime.date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return False
    return today is None or born <= today


def is_uscc(text: str) -> bool:
    """Whether 18 characters are a unified social credit code, whose check is modulo 31 with weights 3^n."""
    if _USCC.fullmatch(text) is None:
        return False
    total = sum(_USCC_ALPHABET.index(character) * pow(3, place, 31) for place, character in enumerate(text[:17]))
    return _USCC_ALPHABET[-total % 31] == text[17]
