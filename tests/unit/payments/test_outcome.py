"""What responses say about money; above all that nothing unclear is called refused or succeeded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.outcome import Outcome, read_outcome, read_status
from paymesh.payments.policy.compiled import Operation, Protocol

WECHAT, PAYMESH = Protocol.WECHAT_V3, Protocol.PAYMESH
PAY, QUERY, REFUND, CLOSE = Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE
ACCEPTED, SUCCEEDED, REFUSED, UNKNOWN = Outcome.ACCEPTED, Outcome.SUCCEEDED, Outcome.REFUSED, Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("protocol", "operation", "status", "body", "outcome"),
    [
        (WECHAT, PAY, 200, {"code_url": "weixin://wxpay/x"}, ACCEPTED),
        (WECHAT, PAY, 200, {"prepay_id": "wx1"}, ACCEPTED),
        (WECHAT, PAY, 200, {"h5_url": "https://x"}, ACCEPTED),
        (WECHAT, PAY, 200, {"code_url": ""}, UNKNOWN),
        (WECHAT, PAY, 200, {"code_url": None}, UNKNOWN),
        (WECHAT, PAY, 200, {}, UNKNOWN),
        (WECHAT, PAY, 200, {"trade_state": "SUCCESS"}, SUCCEEDED),
        (WECHAT, PAY, 200, {"trade_state": "NEW", "code_url": "x"}, UNKNOWN),
        (WECHAT, PAY, 204, None, UNKNOWN),
        (WECHAT, PAY, 302, {"code_url": "x"}, UNKNOWN),
        (WECHAT, PAY, 400, {"code": "PARAM_ERROR"}, REFUSED),
        (WECHAT, PAY, 403, {"code": "NOT_ENOUGH"}, REFUSED),
        (WECHAT, PAY, 400, {"code": "SYSTEM_ERROR"}, UNKNOWN),
        (WECHAT, PAY, 400, {"code": "ORDERPAID"}, UNKNOWN),
        (WECHAT, PAY, 403, {"code": "OUT_TRADE_NO_USED"}, UNKNOWN),
        (WECHAT, PAY, 400, {"message": "no code"}, UNKNOWN),
        (WECHAT, PAY, 400, None, UNKNOWN),
        (WECHAT, PAY, 401, None, REFUSED),
        (WECHAT, PAY, 429, None, REFUSED),
        (WECHAT, PAY, 500, {"code": "SYSTEM_ERROR"}, UNKNOWN),
        (WECHAT, QUERY, 200, {"trade_state": "SUCCESS"}, SUCCEEDED),
        (WECHAT, QUERY, 200, {"trade_state": "REFUND"}, SUCCEEDED),
        (WECHAT, QUERY, 200, {"trade_state": "NOTPAY", "code_url": "x"}, ACCEPTED),
        (WECHAT, QUERY, 200, {"trade_state": "USERPAYING"}, ACCEPTED),
        (WECHAT, QUERY, 200, {"trade_state": "CLOSED"}, REFUSED),
        (WECHAT, QUERY, 200, {"trade_state": "REVOKED"}, REFUSED),
        (WECHAT, QUERY, 200, {"trade_state": "PAYERROR"}, REFUSED),
        (WECHAT, QUERY, 200, {"trade_state": ["SUCCESS"]}, UNKNOWN),
        (WECHAT, QUERY, 200, {"code_url": "x"}, UNKNOWN),
        (WECHAT, QUERY, 404, {"code": "ORDER_NOT_EXIST"}, UNKNOWN),
        (WECHAT, QUERY, 401, None, UNKNOWN),
        (WECHAT, REFUND, 200, {"status": "SUCCESS"}, SUCCEEDED),
        (WECHAT, REFUND, 200, {"status": "PROCESSING"}, ACCEPTED),
        (WECHAT, REFUND, 200, {"status": "CLOSED"}, REFUSED),
        (WECHAT, REFUND, 200, {"status": "ABNORMAL"}, UNKNOWN),
        (WECHAT, CLOSE, 204, None, SUCCEEDED),
        (WECHAT, CLOSE, 400, {"code": "ORDERPAID"}, UNKNOWN),
        (PAYMESH, PAY, 200, {"status": "SUCCEEDED"}, SUCCEEDED),
        (PAYMESH, PAY, 200, {"status": "ACCEPTED"}, ACCEPTED),
        (PAYMESH, PAY, 202, {"status": "PENDING"}, ACCEPTED),
        (PAYMESH, PAY, 200, {"status": "REFUSED"}, REFUSED),
        (PAYMESH, PAY, 200, {"status": "succeeded"}, UNKNOWN),
        (PAYMESH, PAY, 200, {"code_url": "x"}, UNKNOWN),
        (PAYMESH, PAY, 402, {"status": "REFUSED"}, REFUSED),
        (PAYMESH, PAY, 408, {"status": "REFUSED"}, UNKNOWN),
        (PAYMESH, PAY, 409, None, UNKNOWN),
        (PAYMESH, PAY, 425, None, UNKNOWN),
        (PAYMESH, PAY, 503, {"status": "REFUSED"}, UNKNOWN),
        (PAYMESH, QUERY, 200, {"status": "SUCCEEDED"}, SUCCEEDED),
        (PAYMESH, QUERY, 404, None, UNKNOWN),
        (WECHAT, Operation.NOTIFY, 204, None, ACCEPTED),
        (WECHAT, Operation.NOTIFY, 400, None, REFUSED),
        (WECHAT, Operation.BILL, 502, None, UNKNOWN),
    ],
)
def test_read(
    protocol: Protocol, operation: Operation, status: int, body: dict[str, object] | None, outcome: Outcome
) -> None:
    encoded = None if body is None else json.dumps(body).encode()
    assert read_outcome(protocol, operation, status, encoded)[0] is outcome


@pytest.mark.parametrize("body", [None, b"", b"[]", b"\xff", b'{"status":"SUCCEEDED","status":"REFUSED"}', b"{" * 99])
def test_an_unreadable_body_is_unknown(body: bytes | None) -> None:
    assert read_outcome(PAYMESH, PAY, 200, body)[0] is UNKNOWN


@given(
    st.sampled_from(Protocol),
    st.sampled_from([PAY, REFUND]),
    st.integers(100, 599),
    st.one_of(st.none(), st.binary(max_size=30), st.just(b'{"status":"s3cret","code":"s3cret"}')),
)
def test_no_money_moved_without_a_2xx_and_nothing_of_the_body_is_told(
    protocol: Protocol, operation: Operation, status: int, body: bytes | None
) -> None:
    outcome, why = read_outcome(protocol, operation, status, body)
    assert "s3cret" not in why
    assert outcome is UNKNOWN or (outcome is REFUSED and 400 <= status < 500)
    decided = read_status(protocol, operation, status)
    assert decided is None or decided == (outcome, why)


@pytest.mark.parametrize("protocol", [Protocol.ALIPAY_V2, Protocol.ALIPAY_V3, Protocol.UNIONPAY])
@pytest.mark.parametrize("status", [200, 204, 400, 403, 409, 500])
def test_answers_that_are_not_read_are_never_a_refusal(protocol: Protocol, status: int) -> None:
    outcome, _ = read_outcome(protocol, Operation.PAY, status, b'{"code": "ACQ.SYSTEM_ERROR"}')
    assert outcome is Outcome.UNKNOWN
