"""Owns what answers of this project's own JSON protocol say: `status`, and beside REFUSED `fault`.

Refuses words in another case. Without `fault` a refusal is the payer's: a service that says no works, and an outage is
told by its status (5xx).
"""

from __future__ import annotations

from collections.abc import Mapping

from paymesh.payments.outcome.reading import (
    ACCEPTED,
    SUCCEEDED,
    Answer,
    Fault,
    Outcome,
    Reader,
    Reading,
    Verdict,
    accepted,
    parse_object,
    read_word,
    refused,
    succeeded,
    unknown,
)
from paymesh.payments.outcome.statuses import fault_of, read_error
from paymesh.payments.policy.compiled import Operation

_STATES: Mapping[str, Verdict] = {
    "SUCCEEDED": SUCCEEDED,
    "ACCEPTED": ACCEPTED,
    "PENDING": ACCEPTED,
    "REFUSED": (Outcome.REFUSED, Fault.PAYER),
}
_FAULTS: Mapping[object, Fault] = {fault.value: fault for fault in (Fault.PAYER, Fault.MERCHANT, Fault.CHANNEL)}
_ACCEPTED, _NO_CONTENT = 202, 204


def _read_status(operation: Operation, status: int) -> Reading | None:
    if not 200 <= status < 300:
        return read_error(operation, status) or refused(f"refused with {status}", fault_of(operation, status))
    if operation is Operation.CLOSE:
        return accepted("the close is under way (202)") if status == _ACCEPTED else succeeded(f"closed ({status})")
    return unknown("204 says nothing about the payment") if status == _NO_CONTENT else None


def _read_body(answer: Answer) -> Reading:
    document = parse_object(answer)
    if isinstance(document, Reading):
        return document
    found = read_word(document, "status", _STATES)
    if found.outcome is not Outcome.REFUSED:
        return found
    said = document.get("fault")
    return found._replace(fault=_FAULTS.get(said, found.fault) if isinstance(said, str) else found.fault)


PAYMESH = Reader(frozenset({"application/json"}), _read_status, _read_body)
