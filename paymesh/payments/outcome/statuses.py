"""Owns what HTTP statuses say wherever a provider does not give them another meaning (RFC 9110 section 15, RFC 6585).

Refused means that nothing will come of the request, so a status after which the upstream may still be at work is
unknown.
"""

from __future__ import annotations

from paymesh.payments.outcome.reading import Fault, Reading, accepted, refused, unknown
from paymesh.payments.policy.compiled import Operation

_STILL_OPEN = frozenset({408, 409, 425, 499})
"""Timed out, in progress elsewhere, too early, gave up: the upstream may have the payment."""
_NOT_PROCESSED = frozenset({401, 404, 405, 406, 413, 415, 426, 429, 431})
"""Answered before any order is looked at, whatever the body says."""
_NO_SUCH_SERVICE = frozenset({404, 405, 406, 426})
"""A payment names nothing that would have to exist: the channel itself is not where it should be."""
_CONFLICT, _PAYMENT_REQUIRED, _TOO_MANY = 409, 402, 429


def read_without_money(status: int) -> Reading:
    """Of an operation that asks for no payment."""
    if 200 <= status < 300:
        return accepted(f"answered {status}; no payment was asked for")
    if 400 <= status < 500 and status not in _STILL_OPEN:
        return refused(f"refused with {status}", fault_of(Operation.OTHER, status))
    return unknown(f"after {status} it may still have been processed")


def read_error(operation: Operation, status: int) -> Reading | None:
    """What a status that is no 2xx decides; None: that is left to the protocol."""
    if not 400 <= status < 500 or status in _STILL_OPEN:
        fault = Fault.MERCHANT if status == _CONFLICT else Fault.CHANNEL
        return unknown(f"after {status} the upstream may still have processed it", fault)
    if operation is Operation.QUERY:
        # Also for 404: the payment asked about may be on its way to the channel.
        return unknown(f"the query was not answered ({status})", fault_of(operation, status))
    if status in _NOT_PROCESSED:
        return refused(f"refused with {status}", fault_of(operation, status))
    return None


def fault_of(operation: Operation, status: int) -> Fault:
    """Whose fault a 4xx is."""
    if status == _PAYMENT_REQUIRED:
        return Fault.PAYER
    if status == _TOO_MANY or (operation is Operation.PAY and status in _NO_SUCH_SERVICE):
        return Fault.CHANNEL
    return Fault.MERCHANT
