"""What WeChat Pay's answers say."""

import json

import pytest

from paymesh.payments.outcome import Fault, Outcome, media_types, read_outcome
from paymesh.payments.policy.compiled import Operation, Protocol

WECHAT = Protocol.WECHAT_V3
PAY, QUERY, REFUND, CLOSE = Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE
ACCEPTED, SUCCEEDED = (Outcome.ACCEPTED, Fault.NONE), (Outcome.SUCCEEDED, Fault.NONE)
BY_PAYER, BY_MERCHANT, BY_CHANNEL = ((Outcome.REFUSED, fault) for fault in (Fault.PAYER, Fault.MERCHANT, Fault.CHANNEL))
OPEN, OPEN_BY_PAYER, OPEN_BY_MERCHANT = (
    (Outcome.UNKNOWN, fault) for fault in (Fault.CHANNEL, Fault.PAYER, Fault.MERCHANT)
)


@pytest.mark.parametrize(
    ("operation", "status", "body", "expected"),
    [
        (PAY, 200, {"code_url": "weixin://wxpay/x"}, ACCEPTED),
        (PAY, 200, {"prepay_id": "wx1"}, ACCEPTED),
        (PAY, 200, {"h5_url": "https://x"}, ACCEPTED),
        (PAY, 200, {"code_url": ""}, OPEN),
        (PAY, 200, {"code_url": None}, OPEN),
        (PAY, 200, {}, OPEN),
        (PAY, 200, {"trade_state": "SUCCESS"}, SUCCEEDED),
        (PAY, 200, {"trade_state": "USERPAYING"}, ACCEPTED),
        (PAY, 200, {"trade_state": "NEW", "code_url": "x"}, OPEN),
        (PAY, 204, None, OPEN),
        (PAY, 302, {"code_url": "x"}, OPEN),
        (PAY, 400, {"code": "PARAM_ERROR"}, BY_MERCHANT),
        (PAY, 400, {"code": "APPID_MCHID_NOT_MATCH"}, BY_MERCHANT),
        (PAY, 403, {"code": "NO_AUTH"}, BY_MERCHANT),
        (PAY, 400, {"code": "ORDER_CLOSED"}, BY_MERCHANT),
        (PAY, 403, {"code": "NOT_ENOUGH"}, BY_PAYER),
        (PAY, 400, {"code": "AUTH_CODE_EXPIRE"}, BY_PAYER),
        (PAY, 403, {"code": "SOMETHING_NEW"}, BY_CHANNEL),
        (PAY, 400, {"code": "SYSTEM_ERROR"}, OPEN),
        (PAY, 400, {"code": "BANK_ERROR"}, OPEN),
        (PAY, 400, {"code": "USERPAYING"}, OPEN_BY_PAYER),
        (PAY, 400, {"code": "ORDERPAID"}, OPEN_BY_MERCHANT),
        (PAY, 403, {"code": "OUT_TRADE_NO_USED"}, OPEN_BY_MERCHANT),
        (PAY, 400, {"message": "no code"}, OPEN),
        (PAY, 400, {"code": ["PARAM_ERROR"]}, OPEN),
        (PAY, 400, None, OPEN),
        (PAY, 401, None, BY_MERCHANT),
        (PAY, 429, None, BY_CHANNEL),
        (PAY, 500, {"code": "SYSTEM_ERROR"}, OPEN),
        (QUERY, 200, {"trade_state": "SUCCESS"}, SUCCEEDED),
        (QUERY, 200, {"trade_state": "REFUND"}, SUCCEEDED),
        (QUERY, 200, {"trade_state": "NOTPAY", "code_url": "x"}, ACCEPTED),
        (QUERY, 200, {"trade_state": "USERPAYING"}, ACCEPTED),
        (QUERY, 200, {"trade_state": "CLOSED"}, BY_PAYER),
        (QUERY, 200, {"trade_state": "REVOKED"}, BY_MERCHANT),
        (QUERY, 200, {"trade_state": "PAYERROR"}, BY_PAYER),
        (QUERY, 200, {"trade_state": ["SUCCESS"]}, OPEN),
        (QUERY, 200, {"trade_state": "success"}, OPEN),
        (QUERY, 200, {"code_url": "x"}, OPEN),
        (QUERY, 404, {"code": "ORDER_NOT_EXIST"}, OPEN_BY_MERCHANT),
        (QUERY, 401, None, OPEN_BY_MERCHANT),
        (REFUND, 200, {"status": "SUCCESS"}, SUCCEEDED),
        (REFUND, 200, {"status": "PROCESSING"}, ACCEPTED),
        (REFUND, 200, {"status": "CLOSED"}, BY_MERCHANT),
        (REFUND, 200, {"status": "ABNORMAL"}, OPEN_BY_PAYER),
        (REFUND, 200, {"trade_state": "SUCCESS"}, OPEN),
        (REFUND, 403, {"code": "NOT_ENOUGH"}, BY_MERCHANT),  # the merchant's own balance
        (REFUND, 400, {"code": "USER_ACCOUNT_ABNORMAL"}, BY_PAYER),
        (REFUND, 404, {"code": "RESOURCE_NOT_EXISTS"}, BY_MERCHANT),
        (REFUND, 429, {"code": "FREQUENCY_LIMITED"}, OPEN),
        (CLOSE, 204, None, SUCCEEDED),
        (CLOSE, 200, None, OPEN),
        (CLOSE, 200, {}, OPEN),
        (CLOSE, 202, None, OPEN),
        (CLOSE, 400, {"code": "ORDERPAID"}, OPEN_BY_MERCHANT),
        (CLOSE, 400, {"code": "ORDER_CLOSED"}, BY_MERCHANT),
    ],
)
def test_read(
    operation: Operation, status: int, body: dict[str, object] | None, expected: tuple[Outcome, Fault]
) -> None:
    encoded = None if body is None else json.dumps(body).encode()
    found = read_outcome(WECHAT, operation, status, encoded, "application/json; charset=utf-8")
    assert (found.outcome, found.fault) == expected


def test_known_codes_are_told_and_others_are_not() -> None:
    assert read_outcome(WECHAT, PAY, 403, b'{"code":"NOT_ENOUGH"}').why == "refused with 403 and NOT_ENOUGH"
    assert read_outcome(WECHAT, PAY, 403, b'{"code":"LI_SI_13812341234"}').why == "refused with 403 and a code"


def test_its_answers_are_json() -> None:
    assert media_types(WECHAT) == {"application/json"}
