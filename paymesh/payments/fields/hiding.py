"""Owns what becomes of one text under a rule: masked, truncated, hashed, encrypted, dropped. Refuses to know where it
stood."""

from __future__ import annotations

import os
import unicodedata

from paymesh.payments.fields.detect import Found, find
from paymesh.payments.fields.keyed_values import encrypt, keyed_hash
from paymesh.payments.fields.masking import mask
from paymesh.payments.policy.field_rules import Detector, MaskKind, SanitizeAction, SanitizeRule

_SPELLINGS = frozenset({Detector.PAN, Detector.PHONE, Detector.RESIDENT_ID, Detector.BANK_ACCOUNT})
Hidden = tuple[int, int, str]
"""A range of characters and what replaces it."""


def hide(rule: SanitizeRule, text: str, now_s: int) -> str | None:
    """What the text becomes; None: it goes away."""
    return _applied(rule, rule.kind, text, text, now_s)


def hide_found(rule: SanitizeRule, text: str, now_s: int, hidden: list[Hidden]) -> int:
    """Add what this rule hides of the text to what others hide already, where they do not overlap; how many."""
    before = len(hidden)
    for found in find(text, rule.detect):
        if not any(start < found.end and found.start < end for start, end, _ in hidden[:before]):
            hidden.append((found.start, found.end, _replacement(rule, found, text, now_s)))
    return len(hidden) - before


def hide_in(rule: SanitizeRule, text: str, now_s: int) -> str:
    """The text with whatever the rule's detectors find hidden."""
    hidden: list[Hidden] = []
    hide_found(rule, text, now_s, hidden)
    for start, end, replacement in reversed(hidden):
        text = text[:start] + replacement + text[end:]
    return text


def _replacement(rule: SanitizeRule, found: Found, text: str, now_s: int) -> str:
    value = text[found.start : found.end]
    # One number, however it is written, has one hash.
    same = _one_spelling(value) if found.kind in _SPELLINGS else value
    return _applied(rule, MaskKind(found.kind.value), value, same, now_s) or ""


def _applied(rule: SanitizeRule, kind: MaskKind, value: str, same: str, now_s: int) -> str | None:
    match rule.action:
        case SanitizeAction.DROP:
            return None
        case SanitizeAction.MASK:
            return mask(kind, value)
        case SanitizeAction.TRUNCATE:
            assert rule.keep is not None  # checked when the policy was read
            return value[: rule.keep]
        case SanitizeAction.HASH:
            assert rule.keys is not None
            return keyed_hash(rule.keys, same, now_s)
        case SanitizeAction.ENCRYPT:
            assert rule.keys is not None
            return encrypt(rule.keys, value, now_s, os.urandom)


def _one_spelling(value: str) -> str:
    return "".join(character for character in unicodedata.normalize("NFKC", value) if character.isalnum()).upper()
