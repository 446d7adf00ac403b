"""What answers of Alipay v3 say."""

import json

import pytest

from paymesh.payments.outcome import Fault, Outcome, media_types, read_outcome
from paymesh.payments.policy.compiled import Operation, Protocol

ALIPAY = Protocol.ALIPAY_V3
PAY, QUERY, REFUND, CLOSE = Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE
ACCEPTED, SUCCEEDED = (Outcome.ACCEPTED, Fault.NONE), (Outcome.SUCCEEDED, Fault.NONE)
BY_PAYER, BY_MERCHANT, BY_CHANNEL = ((Outcome.REFUSED, fault) for fault in (Fault.PAYER, Fault.MERCHANT, Fault.CHANNEL))
OPEN, OPEN_BY_PAYER, OPEN_BY_MERCHANT = (
    (Outcome.UNKNOWN, fault) for fault in (Fault.CHANNEL, Fault.PAYER, Fault.MERCHANT)
)
PAID_AT = "2026-11-23 10:00:00"


@pytest.mark.parametrize(
    ("operation", "status", "body", "expected"),
    [
        (PAY, 200, {"trade_no": "1", "gmt_payment": PAID_AT}, SUCCEEDED),
        (PAY, 200, {"trade_no": "1", "gmt_payment": PAID_AT, "trade_status": "WAIT_BUYER_PAY"}, ACCEPTED),
        (PAY, 200, {"trade_no": "1", "gmt_payment": PAID_AT, "async_payment_mode": "ASYNC_REALTIME_PAY"}, ACCEPTED),
        (PAY, 200, {"trade_no": "1", "gmt_payment": ""}, ACCEPTED),
        (PAY, 200, {"trade_status": "TRADE_SUCCESS"}, SUCCEEDED),
        (PAY, 200, {"qr_code": "https://x", "gmt_payment": PAID_AT}, ACCEPTED),
        (PAY, 200, {"out_trade_no": "1"}, OPEN),
        (PAY, 200, {}, OPEN),
        (PAY, 200, {"code": "SYSTEM_ERROR", "gmt_payment": PAID_AT}, OPEN),
        (PAY, 201, {"trade_status": "TRADE_SUCCESS"}, OPEN),
        (PAY, 204, None, OPEN),
        (PAY, 400, {"code": "ACQ.SYSTEM_ERROR", "message": "x"}, OPEN),
        (PAY, 400, {"code": "SYSTEM_ERROR"}, OPEN),
        (PAY, 400, {"code": "ACQ.BUYER_BALANCE_NOT_ENOUGH"}, BY_PAYER),
        (PAY, 400, {"code": "BUYER_BALANCE_NOT_ENOUGH"}, BY_PAYER),
        (PAY, 400, {"code": "ACQ.INVALID_PARAMETER"}, BY_MERCHANT),
        (PAY, 400, {"code": "ACQ.TRADE_HAS_SUCCESS"}, OPEN_BY_MERCHANT),
        (PAY, 400, {"code": "ACQ.TRADE_BUYER_NOT_MATCH"}, OPEN_BY_PAYER),
        (PAY, 400, {"code": "invalid-method"}, BY_MERCHANT),
        (PAY, 400, {"code": "app-call-limited"}, BY_CHANNEL),
        (PAY, 400, {"code": "unknow-error"}, OPEN),
        (PAY, 400, {"message": "no code"}, OPEN),
        (PAY, 400, None, OPEN),
        (PAY, 401, None, BY_MERCHANT),
        (PAY, 403, {"code": "ACQ.ACCESS_FORBIDDEN"}, BY_MERCHANT),
        (PAY, 429, None, BY_CHANNEL),
        (PAY, 500, {"code": "ACQ.INVALID_PARAMETER"}, OPEN),
        (QUERY, 200, {"trade_status": "WAIT_BUYER_PAY"}, ACCEPTED),
        (QUERY, 200, {"trade_status": "TRADE_FINISHED"}, SUCCEEDED),
        (QUERY, 200, {"trade_status": "TRADE_CLOSED"}, BY_PAYER),
        (QUERY, 200, {"trade_status": "TRADE_CLOSED", "send_pay_date": PAID_AT}, SUCCEEDED),
        (QUERY, 200, {"gmt_payment": PAID_AT}, OPEN),
        (QUERY, 200, {"refund_status": "REFUND_SUCCESS"}, SUCCEEDED),
        (QUERY, 200, {"refund_status": "REFUND_FAIL", "trade_status": "TRADE_SUCCESS"}, OPEN),
        (QUERY, 400, {"code": "ACQ.TRADE_NOT_EXIST"}, OPEN_BY_MERCHANT),
        (REFUND, 200, {"trade_no": "1", "fund_change": "Y"}, SUCCEEDED),
        (REFUND, 200, {"trade_no": "1", "fund_change": "N"}, ACCEPTED),
        (REFUND, 200, {}, OPEN),
        (REFUND, 200, {"trade_no": "1", "retry_flag": "N"}, SUCCEEDED),
        (REFUND, 400, {"code": "ACQ.SELLER_BALANCE_NOT_ENOUGH"}, BY_MERCHANT),
        (REFUND, 404, {"code": "ACQ.TRADE_NOT_EXIST"}, BY_MERCHANT),
        (CLOSE, 200, {"out_trade_no": "1"}, SUCCEEDED),
        (CLOSE, 200, {"trade_no": "1", "retry_flag": "Y"}, OPEN),
        (CLOSE, 200, {}, OPEN),
        (CLOSE, 400, {"code": "ACQ.TRADE_STATUS_ERROR"}, BY_MERCHANT),
    ],
)
def test_read(
    operation: Operation, status: int, body: dict[str, object] | None, expected: tuple[Outcome, Fault]
) -> None:
    encoded = None if body is None else json.dumps(body).encode()
    found = read_outcome(ALIPAY, operation, status, encoded, "application/json;charset=UTF-8")
    assert (found.outcome, found.fault) == expected


def test_its_answers_are_json() -> None:
    assert media_types(ALIPAY) == {"application/json"}
