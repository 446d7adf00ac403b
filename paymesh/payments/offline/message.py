"""Owns an offline payment as JSON: reading the request, writing the answer. Refuses members it does not know.

A violation names its place by a JSON pointer (RFC 6901). A member that is not known is not named: its name is the
caller's text.
"""

from __future__ import annotations

from collections.abc import Mapping

from paymesh.payments.bodies.errors import BodyError, body_denial
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.events.types import OfflineRecorded
from paymesh.payments.offline.record import FIELDS, Teller, Violation, make_record, rfc3339

LIMITS = BodyLimits(max_bytes=16_384, max_depth=4, max_members=64)
_AMOUNT = {"total": "amount", "currency": "currency"}
"""Members of `amount`, and the fields they are."""
POINTERS: Mapping[str, str] = {
    field: f"/amount/{dict(zip(_AMOUNT.values(), _AMOUNT, strict=True))[field]}"
    if field in _AMOUNT.values()
    else f"/{field}"
    for field in FIELDS
}
_MEMBERS = frozenset(field for field in FIELDS if field not in _AMOUNT.values()) | {"amount"}


def read_message(body: bytes, teller: Teller) -> OfflineRecorded | Denial:
    """The record that the body is, or why it is none; every violation is told."""
    try:
        document = parse_json(body, LIMITS, object_only=True).value
    except BodyError as error:
        return body_denial(error)
    assert isinstance(document, dict)
    values = {name: value for name, value in document.items() if name in _MEMBERS and name != "amount"}
    wrong = [f"{pointer}: {what}" for pointer, what in _amounts(document.get("amount", {}), values)]
    if document.keys() - _MEMBERS:
        wrong.append(f"/: has a member that is none of {', '.join(sorted(_MEMBERS))}")
    made = make_record(values, teller)
    if isinstance(made, tuple):
        wrong += _told(made, nested=isinstance(document.get("amount", {}), dict))
    if wrong or isinstance(made, tuple):
        return Denial(Reason.FIELD_INVALID, "; ".join(wrong), told=tuple(wrong))
    return made


def write_message(record: OfflineRecorded) -> dict[str, object]:
    """The record as its merchant is told it. Times in UTC."""
    told: dict[str, object] = {
        "id": record.id,
        "recorded_at": rfc3339(record.at_us // 1_000_000),
        "merchant": record.merchant,
        "reference": record.reference,
        "amount": {"total": record.amount, "currency": record.currency},
        "method": str(record.method),
        "paid_at": rfc3339(record.paid_at_s),
    }
    more = {name: getattr(record, name) for name in ("order_no", "store", "terminal", "note")}
    return told | {name: value for name, value in more.items() if value is not None}


def _amounts(amount: object, values: dict[str, object]) -> list[tuple[str, str]]:
    """Sets the fields that stand in `amount`; what is wrong with itself."""
    if not isinstance(amount, dict):
        return [("/amount", "is no object")]
    values |= {field: amount[member] for member, field in _AMOUNT.items() if member in amount}
    if amount.keys() - _AMOUNT.keys():
        return [("/amount", f"has a member that is none of {', '.join(_AMOUNT)}")]
    return []


def _told(violations: tuple[Violation, ...], *, nested: bool) -> list[str]:
    """`nested` False: that `amount` is no object says all of what would stand in it."""
    return [f"{POINTERS[one.field]}: {one.what}" for one in violations if nested or one.field not in _AMOUNT.values()]
