"""Microseconds per KB to validate, detect and sanitise a body, beside a plain json.loads and json.dumps of it.

python -m bench.fields [--seconds 1]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote_plus

from paymesh.payments.bodies.body import read_body
from paymesh.payments.bodies.limits import BodyLimits, Format, Reading
from paymesh.payments.fields.detect import find
from paymesh.payments.fields.rules import Message, violations
from paymesh.payments.fields.sanitize import sanitize_body
from paymesh.payments.policy.field_rules import (
    Detector,
    FieldKey,
    FieldRule,
    JsonType,
    KeyRing,
    Kind,
    MaskKind,
    SanitizeAction,
    SanitizeRule,
    SumRule,
    Validation,
)
from paymesh.payments.secrets import Secret

NOW_S = 1_790_000_000
_KEY = FieldKey("k1", Secret(b"a key for measuring, of 32 bytes"))
_RING = KeyRing("pii", (_KEY,), {"k1": _KEY})
_EVERY = frozenset(Detector)
JSON = Reading(limits=BodyLimits(max_bytes=1 << 24, max_members=1_000_000))
FORM = Reading(frozenset({Format.FORM}), JSON.limits, frozenset({("biz_content",)}), "charset")

VALIDATION = Validation(
    fields=(
        FieldRule(("order_no",), required=True, kind=Kind.ORDER_NO),
        FieldRule(("amount", "total"), required=True, type=JsonType.INTEGER),
        FieldRule(("payer", "phone"), kind=Kind.PHONE),
        FieldRule(("payer", "resident_id"), kind=Kind.RESIDENT_ID),
        FieldRule(("payer", "email"), kind=Kind.EMAIL),
        FieldRule(("card", "pan"), kind=Kind.PAN),
        FieldRule(("items", "*", "price"), required=True, type=JsonType.INTEGER),
    ),
    sums=(SumRule(("items", "*", "price"), ("items", "*", "quantity"), ("amount", "total")),),
)
FIELDS = (
    SanitizeRule(SanitizeAction.MASK, ("payer", "phone"), kind=MaskKind.PHONE),
    SanitizeRule(SanitizeAction.MASK, ("payer", "resident_id"), kind=MaskKind.RESIDENT_ID),
    SanitizeRule(SanitizeAction.MASK, ("card", "pan"), kind=MaskKind.PAN),
    SanitizeRule(SanitizeAction.DROP, ("card", "cvv")),
    SanitizeRule(SanitizeAction.HASH, ("payer", "email"), keys=_RING),
)
DETECTED = (SanitizeRule(SanitizeAction.MASK, detect=_EVERY),)


def payment(items: int) -> dict[str, object]:
    """A payment with so many items; personal data in its fields and two numbers in its remark."""
    rows = [{"sku": f"tea-{n:06d}", "name": "龙井茶叶 250g", "price": 100 + n, "quantity": 1} for n in range(items)]
    return {
        "order_no": "T20261123-000001",
        "amount": {"total": sum(100 + n for n in range(items)), "currency": "CNY"},
        "product": "card",
        "payer": {
            "name": "张三",
            "phone": "13812341234",
            "resident_id": "11010519491231002X",
            "email": "zhang.san@example.com",
        },
        "card": {"pan": "6222020000000000000", "cvv": "123"},
        "remark": "请打电话13812341234，或者 6222 0200 0000 0000 000",
        "items": rows,
    }


def microseconds(work: Callable[[], object], seconds: float) -> float:
    """The median of a call over about so many seconds."""
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        began = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - began)
    return sorted(times)[len(times) // 2] / 1000


def lines(document: dict[str, object]) -> dict[str, tuple[Callable[[], object], int]]:
    """What is measured: its name, the work, the bytes it works on."""
    body = json.dumps(document, ensure_ascii=False).encode()
    text = body.decode()
    escaped = json.dumps(document).encode()
    form = f"charset=utf-8&method=a&biz_content={quote_plus(text)}".encode()
    rules = tuple(replace(rule, field=("biz_content", *(rule.field or ()))) for rule in FIELDS)
    value = read_body(body, "application/json", JSON).value
    form_type = "application/x-www-form-urlencoded"
    return {
        "json.loads + json.dumps": (lambda: json.dumps(json.loads(body), ensure_ascii=False).encode(), len(body)),
        "read (strict)": (lambda: read_body(body, "application/json", JSON), len(body)),
        "read form + biz_content": (lambda: read_body(form, form_type, FORM), len(form)),
        "validate (8 rules, read already)": (lambda: violations(VALIDATION, Message(value), NOW_S), len(body)),
        "detect in the text": (lambda: find(text, _EVERY), len(body)),
        "sanitise 5 fields": (lambda: sanitize_body(body, "application/json", JSON, FIELDS, NOW_S), len(body)),
        "sanitise by detectors": (lambda: sanitize_body(body, "application/json", JSON, DETECTED, NOW_S), len(body)),
        "sanitise both, \\u escapes": (
            lambda: sanitize_body(escaped, "application/json", JSON, (*FIELDS, *DETECTED), NOW_S),
            len(escaped),
        ),
        "sanitise 5 fields of a form": (lambda: sanitize_body(form, form_type, FORM, rules, NOW_S), len(form)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each line")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; median of each call")
    for items in (2, 20, 2000):
        print(f"\n{f'a payment of {items} items':36}{'bytes':>9}{'us':>11}{'us/KB':>9}")
        for name, (work, size) in lines(payment(items)).items():
            taken = microseconds(work, args.seconds)
            print(f"{name:36}{size:>9}{taken:>11.1f}{taken / size * 1024:>9.1f}")


if __name__ == "__main__":
    main()
