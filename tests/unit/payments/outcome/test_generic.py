"""What answers of our own JSON protocol say."""

import json

import pytest

from paymesh.payments.outcome import Fault, Outcome, read_outcome
from paymesh.payments.policy.compiled import Operation, Protocol

PAYMESH = Protocol.PAYMESH
PAY, QUERY, REFUND, CLOSE = Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE
ACCEPTED, SUCCEEDED = (Outcome.ACCEPTED, Fault.NONE), (Outcome.SUCCEEDED, Fault.NONE)
BY_PAYER, BY_MERCHANT, BY_CHANNEL = ((Outcome.REFUSED, fault) for fault in (Fault.PAYER, Fault.MERCHANT, Fault.CHANNEL))
OPEN, OPEN_BY_MERCHANT = (Outcome.UNKNOWN, Fault.CHANNEL), (Outcome.UNKNOWN, Fault.MERCHANT)


@pytest.mark.parametrize(
    ("operation", "status", "body", "expected"),
    [
        (PAY, 200, {"status": "SUCCEEDED"}, SUCCEEDED),
        (PAY, 200, {"status": "ACCEPTED"}, ACCEPTED),
        (PAY, 202, {"status": "PENDING"}, ACCEPTED),
        (PAY, 200, {"status": "SUCCEEDED", "fault": "channel"}, SUCCEEDED),
        (PAY, 200, {"status": "REFUSED"}, BY_PAYER),
        (PAY, 200, {"status": "REFUSED", "fault": "payer"}, BY_PAYER),
        (PAY, 200, {"status": "REFUSED", "fault": "merchant"}, BY_MERCHANT),
        (PAY, 200, {"status": "REFUSED", "fault": "channel"}, BY_CHANNEL),
        (PAY, 200, {"status": "REFUSED", "fault": "none"}, BY_PAYER),
        (PAY, 200, {"status": "REFUSED", "fault": ["channel"]}, BY_PAYER),
        (PAY, 200, {"status": "succeeded"}, OPEN),
        (PAY, 200, {"code_url": "x"}, OPEN),
        (PAY, 204, None, OPEN),
        (PAY, 402, {"status": "REFUSED"}, BY_PAYER),
        (PAY, 400, {"status": "SUCCEEDED"}, BY_MERCHANT),
        (PAY, 403, None, BY_MERCHANT),
        (PAY, 422, None, BY_MERCHANT),
        (PAY, 429, None, BY_CHANNEL),
        (PAY, 408, {"status": "REFUSED"}, OPEN),
        (PAY, 409, None, OPEN_BY_MERCHANT),
        (PAY, 425, None, OPEN),
        (PAY, 503, {"status": "REFUSED"}, OPEN),
        (QUERY, 200, {"status": "SUCCEEDED"}, SUCCEEDED),
        (QUERY, 404, None, OPEN_BY_MERCHANT),
        (REFUND, 200, {"status": "SUCCEEDED"}, SUCCEEDED),
        (REFUND, 404, None, BY_MERCHANT),
        (CLOSE, 204, None, SUCCEEDED),
        (CLOSE, 200, None, SUCCEEDED),
        (CLOSE, 202, None, ACCEPTED),
        (CLOSE, 400, None, BY_MERCHANT),
    ],
)
def test_read(
    operation: Operation, status: int, body: dict[str, object] | None, expected: tuple[Outcome, Fault]
) -> None:
    found = read_outcome(PAYMESH, operation, status, None if body is None else json.dumps(body).encode())
    assert (found.outcome, found.fault) == expected
